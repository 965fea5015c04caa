"""The models, by the key ``model`` of their configs."""

from glc_toolkit.models.base import GLCModel
from glc_toolkit.models.image import GLCImage
from glc_toolkit.models.video import GLCVideo

MODELS = {"image": GLCImage, "video": GLCVideo}


def build(config: dict) -> GLCModel:
    """An untrained model. Raises ``ValueError`` for a config that makes none."""
    kind = config.get("model")
    if kind not in MODELS:
        raise ValueError(f"model in a config has to be {' or '.join(MODELS)}, not {kind!r}")
    return MODELS[kind](config)
