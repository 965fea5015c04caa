"""Quality metrics: ``metric(x_hat, x)`` for (B, 3, H, W) in [0, 1] gives one float an image, (B,).

A metric may state limits: ``shortest_side``, in pixels, and ``most_pixels``, height times width. It is not measured on
pictures beyond them.
"""

from glc_toolkit.components.metrics import dists, grid, lpips, pixel

__all__ = ["dists", "grid", "lpips", "pixel"]
