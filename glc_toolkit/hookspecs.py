"""The extension points of glc-toolkit.

A plugin is any importable module or object with some of these functions, each marked with
``@glc_toolkit.hookimpl`` and advertised under the entry-point group ``glc_toolkit``.
Component hooks take no arguments, have no side effects, and return ``{name: factory}``;
a factory is called with the keyword arguments found under ``args`` in a model or training config.
What each kind of component must offer is written down in :mod:`glc_toolkit.types`.
"""

import pluggy

PROJECT = "glc_toolkit"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def glc_backbones():
    """VQ-VAE backbones: image <-> latent."""


@hookspec
def glc_quantizers():
    """Vector quantizers: latent <-> codebook indices."""


@hookspec
def glc_transforms():
    """Transforms coded in the latent: l <-> y, with one gain per quality level."""


@hookspec
def glc_temporals():
    """Temporal contexts of video models: the latent decoded before -> what the next frame is coded with."""


@hookspec
def glc_hypers():
    """Hyper modules: y -> side information -> entropy parameters of y."""


@hookspec
def glc_entropy_models():
    """Entropy models: symbols -> probabilities and coding tables."""


@hookspec
def glc_contexts():
    """Coding orders: which elements of y are coded in which pass, and what a pass learns from those before."""


@hookspec
def glc_losses():
    """Training losses."""


@hookspec
def glc_metrics():
    """Quality metrics of a reconstruction against its original."""


@hookspec
def glc_codecs():
    """Codecs to compare with: a family each, of pictures, clips or both."""


@hookspec
def glc_zoo():
    """Models: ``{name: folder}``, each folder holding config, card, weights and checksums."""


@hookspec
def glc_commands(cli):
    """Add commands to the ``glc`` command line (a :class:`click.Group`)."""
