"""glc-toolkit: Generative Latent Coding for images, in parts that can be exchanged.

Nothing heavy is imported here, so that the command line answers at once; names are resolved when first used.
"""

from importlib import import_module

from glc_toolkit.hookspecs import hookimpl

__version__ = "0.1.0"
__all__ = ["BitstreamError", "ModelFileError", "decode", "encode", "hookimpl", "info", "registry", "show", "zoo"]

_WHERE = {
    "encode": "glc_toolkit.api",
    "decode": "glc_toolkit.api",
    "info": "glc_toolkit.api",
    "show": "glc_toolkit.evaluation.show",
    "BitstreamError": "glc_toolkit.types",
    "ModelFileError": "glc_toolkit.types",
}


def __getattr__(name: str):
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    if name in ("registry", "zoo"):
        return import_module(f"glc_toolkit.{name}")
    raise AttributeError(f"module 'glc_toolkit' has no attribute {name!r}")
