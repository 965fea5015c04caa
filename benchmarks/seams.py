"""What tiles change: the backbone in tiles against the whole picture, where both fit.

The energy of a seam is that of the jumps between neighbouring columns of the difference (tiled - whole), in the columns
where two tiles are blended; it is compared with the jumps of the picture itself there.

python -m benchmarks.seams PICTURE [--model glc-image-0.03] [--precision float32] [--side 64]
"""

import argparse
import json

import torch
from torch import Tensor

from glc_toolkit import io
from glc_toolkit.evaluation import bench
from glc_toolkit.models import tiles


def jumps(t: Tensor, columns: slice) -> float:
    """Mean square of the steps from column to column."""
    return t.diff(dim=-1)[..., columns].square().mean().item()


def compare(whole: Tensor, tiled: Tensor, cell: int) -> dict:
    difference = tiled - whole
    start = (tiles.SIDE - tiles.OVERLAP + tiles.UNUSED) * cell  # of the first blend
    columns = slice(start, start + (tiles.OVERLAP - 2 * tiles.UNUSED) * cell)
    return {
        "rms_difference": difference.square().mean().sqrt().item(),
        "largest_difference": difference.abs().max().item(),
        "deviation_of_whole": whole.std().item(),
        "seam_energy": jumps(difference, columns),
        "own_energy_there": jumps(whole, columns),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("picture")
    parser.add_argument("--model", default="glc-image-0.03")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--side", type=int, default=tiles.SIDE, help="of a tile, in latents; smaller shows more")
    options = parser.parse_args()
    tiles.SIDE = options.side
    model = bench.load(options.model, precision=options.precision)
    factor = model.backbone.downsampling
    x = model.pad(io.to_tensor(options.picture))
    if x.shape[-1] <= tiles.SIDE * factor:
        parser.error(f"{options.picture} is one tile wide: give a wider picture, or a smaller --side")
    with torch.no_grad():
        analysis, synthesis = map(model.in_precision, (model.backbone.analysis, model.backbone.synthesis))
        l = analysis(x)
        print(json.dumps({"analysis": compare(l, tiles.tiled(analysis, x, factor, 1), 1)}), flush=True)
        x_hat = synthesis(l)
        print(json.dumps({"synthesis": compare(x_hat, tiles.tiled(synthesis, l, 1, factor), factor)}))


if __name__ == "__main__":
    main()
