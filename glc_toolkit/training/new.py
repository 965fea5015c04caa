"""``glc recipe new``: a commented recipe with its stages in the right order."""

from collections.abc import Sequence
from textwrap import indent

import yaml

from glc_toolkit import zoo

PICTURES = """# {what}
# glc train {name}.yaml --smoke takes two steps of each stage, glc train {name}.yaml all of them. Stop it when you like:
# the same command goes on.
name: {name}
data:
  sources: {sources}  # folders and tar files, relative to where the command is started
  holdout: 40                  # of every so many pictures one is kept for the numbers on the card
rate: {rate}                     # bits a pixel that quality=None will mean, found on the pictures kept
{start}model:
{model}
stages:                        # in this order: each begins with the averaged weights of the one before
"""
VQVAE = """  - name: vqvae                # the autoencoder alone: x -> codes -> x_hat
    objective: vqvae
    trains: [backbone]
    minutes: 60                # or steps; with both what is over first ends the stage
    batch: 16
    crop: 128
    lr: 4.0e-4
    losses:
      l1: {}
      lpips: {args: {net: alex}}
      dists: {args: {fraction: 0.25}}
      codebook: {weight: 0.25}
"""
LATENT = """  - name: latent               # the codec in the latent: cheaper than joint, since it draws no pictures
    objective: latent
    trains: [transform, hyper, context, entropy_model]
    minutes: 15
    batch: 6
    crop: 256
    lr: 3.0e-4
    losses:
      rate: {args: {lmbda: LAMBDA_LATENT}}
      latent_mse: {}
      codebook: {weight: 0.25}
"""
JOINT = """  - name: joint                # everything, from pixels
    objective: joint
    trains: [backbone, transform, hyper, context, entropy_model]
    minutes: 90
    batch: 4
    crop: 256
    lr: 1.2e-4
    losses:
      rate: {args: {lmbda: LAMBDA_JOINT}}  # one a level, lowest rate first; higher is fewer bits
      l1: {weight: 3.0}
      lpips: {args: {net: alex}}
      dists: {weight: 2.0, args: {fraction: 0.5}}
      codebook: {weight: 0.25}
"""


def recipe(name: str, model: str, fresh: bool, sources: Sequence[str]) -> str:
    """The text of a recipe for the config of the image model ``model``, from its weights unless ``fresh``.

    Raises ``ValueError`` for a model of videos.
    """
    config = dict(zoo.info(model)["config"])
    if config["model"] != "image":
        raise ValueError(f"{model} codes videos; recipes/glc-video-0.01.yaml is a recipe to begin with")
    levels = config.get("levels", 4)
    config.pop("name", None)
    what = f"Trains a model like {model} from random weights." if fresh else f"Trains {model} on, on your pictures."
    head = PICTURES.format(
        what=what,
        name=name,
        sources=yaml.safe_dump(list(sources), default_flow_style=True).strip(),
        rate=0.03,
        start="" if fresh else f"start: {model}        # begin with its weights; the model below has to be the same\n",
        model=indent(yaml.safe_dump(config, sort_keys=False, default_flow_style=None, width=110), "  ").rstrip(),
    )
    stages = [VQVAE, LATENT, JOINT] if fresh else [JOINT]
    text = head + "".join(stages)
    for word, first, last in (("LAMBDA_LATENT", 1.0, 0.35), ("LAMBDA_JOINT", 14.0, 8.0)):
        text = text.replace(
            word, str([round(first * (last / first) ** (i / max(levels - 1, 1)), 3) for i in range(levels)])
        )
    return text
