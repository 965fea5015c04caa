"""The model that a run begins with."""

from typing import Any

from glc_toolkit import models, zoo
from glc_toolkit.models import GLCModel, GLCVideo
from glc_toolkit.training.grow import grow, state_from
from glc_toolkit.training.recipe import Recipe


def initial_model(recipe: Recipe) -> GLCModel:
    """The model of a recipe, with the networks and the weights that the recipe takes from the zoo."""
    model = untrained(recipe)
    for part, pretrained in recipe.pretrained.items():
        network: Any = model.get_submodule(part)
        network.load_pretrained(zoo.network(pretrained.network), **pretrained.args)
    if recipe.start is not None:
        model.load_state_dict(state_from(model, recipe.start, recipe.anew))
    return model


def untrained(recipe: Recipe) -> GLCModel:
    """The model of a recipe with random weights. A video model has the weights of its image model."""
    if recipe.image is None:
        return models.build(recipe.model)
    image = zoo.load(recipe.image).train()
    model = models.build({**recipe.model, "image": merged(image.config, recipe.model.get("image", {}))})
    assert isinstance(model, GLCVideo)
    model.image.load_state_dict(grow(model.image, image))
    return model


def merged(config: dict, changes: dict) -> dict:
    """``config`` with the values of ``changes``; a dict in ``changes`` changes the dict in ``config``."""
    changed = dict(config)
    for key, value in changes.items():
        changed[key] = merged(config.get(key, {}), value) if isinstance(value, dict) else value
    return changed
