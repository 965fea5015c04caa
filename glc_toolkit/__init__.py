"""glc-toolkit: Generative Latent Coding for pictures and videos, in parts that can be exchanged.

Nothing heavy is imported here, so that the command line answers at once; names are resolved when first used.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING

from glc_toolkit import lazy
from glc_toolkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from glc_toolkit import registry, zoo
    from glc_toolkit.api import decode, decode_video, encode, encode_video, info
    from glc_toolkit.evaluation.show import show
    from glc_toolkit.types import BitstreamError, ModelFileError

lazy.install()
# torch_geometric, which CompressAI uses, scripts two classes as it is imported: nothing that a user here can change.
warnings.filterwarnings("ignore", message=r".*torch\.jit\.script", category=FutureWarning)
warnings.filterwarnings("ignore", message=r".*torch\.jit\.script", category=DeprecationWarning)

__version__ = "0.1.0"
__all__ = [
    "BitstreamError",
    "ModelFileError",
    "decode",
    "decode_video",
    "encode",
    "encode_video",
    "hookimpl",
    "info",
    "registry",
    "show",
    "zoo",
]

_WHERE = {
    "encode": "glc_toolkit.api",
    "decode": "glc_toolkit.api",
    "encode_video": "glc_toolkit.api",
    "decode_video": "glc_toolkit.api",
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
