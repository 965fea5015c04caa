"""Training losses: ``loss(out)`` gives a scalar from what a training step knows.

``out`` holds ``x`` and, depending on the stage, ``x_hat``, ``l``, ``l_hat``, ``codes`` (the backbone's indices of
``l``), ``likelihoods``, ``quality``, ``codebook_loss``, ``hyper_loss``, and of a backbone that draws thumbnails ``t``,
``t_hat``.
"""

from glc_toolkit.components.losses import code_prediction, codebook, gan, latent_mse, perceptual, pixel, rate

__all__ = ["code_prediction", "codebook", "gan", "latent_mse", "perceptual", "pixel", "rate"]
