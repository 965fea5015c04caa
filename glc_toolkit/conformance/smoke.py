"""A recipe of two steps a stage, to see that a component trains in its place (needs the extra ``train``)."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from glc_toolkit import zoo
from glc_toolkit.conformance import tiny
from glc_toolkit.models.image import SLOTS, GLCImage

LOSSES = {
    "vqvae": {"l1": {}, "codebook": {}},
    "joint": {"rate": {"args": {"lmbda": [4.0, 2.0, 1.0]}}, "l1": {}, "codebook": {}},
}


def train(folder: Path, model: dict | None = None, losses: dict | None = None) -> GLCImage:
    """Run stages I and III of the tiny model, as ``glc train --smoke`` does, in an empty ``folder``.

    Args:
        model: slots of the model to replace: ``{"backbone": {"name": ..., "args": {...}}}``.
        losses: terms to add to both stages, as in a recipe: ``{"gan": {"weight": 0.1}}``.

    Returns the model that was trained, loaded from the zoo folder that the run ends with.
    """
    import yaml

    from glc_toolkit.training.run import run

    (folder / "pictures").mkdir()
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((192, 192)).save(folder / "pictures" / f"{i}.png")
    recipe = {
        "name": "smoke",
        "model": tiny.model_config(**(model or {})),
        "data": {"sources": [str(folder / "pictures")], "holdout": 3},
        "precision": "32-true",
        "stages": [
            {
                "name": objective,
                "objective": objective,
                "trains": ["backbone"] if objective == "vqvae" else list(SLOTS),
                "steps": 2,
                "crop": 64,
                "losses": {**terms, **(losses or {})},
            }
            for objective, terms in LOSSES.items()
        ],
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(recipe))))
    run(folder / "recipe.yaml", folder / "run", smoke=True)
    return zoo.load(folder / "run" / "smoke")
