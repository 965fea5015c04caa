"""Models small enough to build in milliseconds, for checks."""

import copy
from typing import Any

from glc_toolkit import registry
from glc_toolkit.types import trait

CHANNELS = 16
LEVELS = 3
SUPPLIED = {  # what the slots of a model supply
    "backbone": {},
    "quantizer": {"channels": CHANNELS},
    "transform": {"latent_channels": CHANNELS, "channels": CHANNELS, "levels": LEVELS},
    "temporal": {"latent_channels": CHANNELS, "channels": CHANNELS, "adaptors": 3},
    "hyper": {"channels": CHANNELS},
    "entropy_model": {"channels": CHANNELS, "codebook_size": 64, "num_codebooks": 1},
    "context": {"channels": CHANNELS},
    "loss": {},
    "metric": {},
}
MODEL = {
    "model": "image",
    "channels": CHANNELS,
    "levels": LEVELS,
    "backbone": {
        "name": "vqgan",
        "args": {
            "channels": 16,
            "multipliers": [1, 1, 1],
            "encoder_blocks": 1,
            "decoder_blocks": 1,
            "attention": False,
            "latent_channels": CHANNELS,
            "patch": 4,
            "norm": "none",
            "quantizer": {"name": "nearest", "args": {"codebook_size": 64}},
        },
    },
    "transform": {"name": "gated", "args": {"spread": 2.0}},
    "hyper": {"name": "spatial_categorical", "args": {"quantizer": {"name": "nearest", "args": {"codebook_size": 64}}}},
    "context": {"name": "four_part", "args": {"depth": 1}},
    "entropy_model": {"name": "gaussian"},
}
VIDEO = {
    "model": "video",
    "channels": CHANNELS,
    "levels": LEVELS,
    "intra_period": 4,
    "refresh": 2,
    "image": MODEL,
    "temporal": {"name": "latent_context", "args": {"depth": 1}},
    "transform": {"name": "conditional", "args": {"spread": 2.0}},
    "hyper": {
        "name": "spatio_temporal_categorical",
        "args": {
            "tokens": 2,
            "heads": 4,
            "fusion": 1,
            "quantizer": {"name": "nearest", "args": {"codebook_size": 16}},
        },
    },
    "context": {"name": "dual_checkerboard", "args": {"depth": 2}},
    "entropy_model": {"name": "gaussian"},
}


def config(kind: str, name: str) -> dict[str, Any]:
    """A component's config with its ``example_args``."""
    factory, _ = registry.components(kind)[name]
    return {"name": name, "args": dict(trait(factory, "example_args"))}


def build(kind: str, name: str) -> Any:
    """A component as a slot of the tiny model would build it."""
    return registry.build(kind, config(kind, name), **SUPPLIED[kind])


def model_config(**slots: dict) -> dict:
    """The tiny model's config with some slots replaced."""
    return {**copy.deepcopy(MODEL), **slots}
