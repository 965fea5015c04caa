"""The paper's ablations in small: each arm by the same trainer, on the same pictures, in the same time.

    python docs/make_ablations.py ablations RUNS
    python docs/make_ablations.py adversary RUNS

trains the arms of one comparison in ``RUNS``, one after the other, and measures real files of the held-out pictures.
Then it writes the comparison's ``results/*.json``, draws its ``images/*.png`` and fills its table of ``ablations.md``.
An arm that was stopped goes on where it was. An arm that is in the results is not trained again. The budget is time, so
the arms of one comparison need the same machine, equally busy.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import make_tables

from glc_toolkit.evaluation.curves import plot
from glc_toolkit.training.loop import train
from glc_toolkit.training.recipe import Recipe, Term
from glc_toolkit.training.run import held_out, validate

DOCS = Path(__file__).parent
MINUTES = (4.0, 2.0, 4.0)  # of the three stages
RATES = [0.021, 0.023, 0.025, 0.028]  # bpp of the four levels, near those that the first arm ends at
EVERY = 3  # held-out picture is measured
SHOWN = ("bpp", "lpips-alex", "lpips-vgg", "dists", "psnr")


def glc() -> Recipe:
    """Version 1 of glc-image-0.03 by the paper's three stages. The last two have code prediction, crops 128 pixels."""
    recipe = Recipe.read(DOCS.parent / "recipes" / "glc-image-0.03@1.yaml")
    losses = {stage.name: stage.losses for stage in recipe.stages}["slower"]
    recipe.stages = recipe.stages[:3]
    for stage, minutes in zip(recipe.stages, MINUTES, strict=True):
        stage.minutes, stage.batch, stage.crop, stage.ema, stage.warmup = minutes, 16, 128, 0.99, 20
    _, latent, joint = recipe.stages
    joint.losses = {name: term.model_copy(deep=True) for name, term in losses.items()}
    latent.losses["code_prediction"].args["positions"] = 8
    joint.losses["code_prediction"] = latent.losses["code_prediction"].model_copy(deep=True)
    return recipe


def pixels() -> Recipe:
    """The same networks, all of them on pixels from their first step: no autoencoder first, no loss in its latent.

    Under the lambdas of the other arms it would never begin to send anything, so lambda is steered to their rates.
    """
    recipe = glc()
    vqvae, _, joint = recipe.stages
    del joint.losses["code_prediction"]
    joint.losses["rate"].args |= {"target_bpp": RATES, "speed": 0.03}
    joint.minutes, joint.lr = sum(MINUTES), vqvae.lr
    recipe.stages = [joint]
    return recipe


def factorized() -> Recipe:
    recipe = glc()
    recipe.model["hyper"] = {"name": "factorized"}
    for stage in recipe.stages[1:]:
        del stage.losses["codebook"]
    return recipe


def unpredicted() -> Recipe:
    recipe = glc()
    for stage in recipe.stages[1:]:
        del stage.losses["code_prediction"]
    return recipe


def labelled() -> Recipe:
    """The training of MS-ILLM (Muckley et al., ICML 2023). In the second half of stage III the generator learns alone,
    also from a discriminator that names the codes of the VQ-VAE. The plugin ``glc-ms-illm`` has this loss.
    """
    recipe = glc()
    joint = recipe.stages[-1]
    judged = joint.model_copy(deep=True, update={"name": "judged", "trains": ["backbone.generator"]})
    judged.losses = {name: judged.losses[name] for name in ("l1", "lpips", "dists")}
    judged.losses["labelled_gan"] = Term(weight=0.3, args={"codebook_size": 1024, "width": 32})
    joint.minutes = judged.minutes = MINUTES[-1] / 2
    recipe.stages.append(judged)
    return recipe


ARMS: dict[str, tuple[str, Callable[[], Recipe]]] = {
    "glc": ("GLC: latent, categorical, code prediction", glc),
    "pixels": ("pixel space", pixels),
    "factorized": ("factorized hyper module", factorized),
    "unpredicted": ("no code prediction", unpredicted),
    "labelled": ("adversary of MS-ILLM", labelled),
}
COMPARISONS = {"ablations": ("glc", "pixels", "factorized", "unpredicted"), "adversary": ("glc", "labelled")}


def curve(name: str, folder: Path) -> dict:
    """Train an arm and measure each of its levels."""
    title, recipe = ARMS[name][0], ARMS[name][1]()
    model = train(recipe, folder / name)
    model.update(force=True)
    samples, _ = held_out(model, recipe)
    rows = [validate(model, samples[::EVERY], float(level)) for level in range(model.levels)]
    return {"name": name, "description": title, "results": {key: [row[key] for row in rows] for key in rows[0]}}


def main(comparison: str, folder: str) -> None:
    results = DOCS / "results" / f"{comparison}.json"
    curves = json.loads(results.read_text()) if results.exists() else []
    for name in COMPARISONS[comparison]:
        if name not in [done["name"] for done in curves]:
            curves.append(curve(name, Path(folder)))
            results.write_text(json.dumps(curves, indent=1) + "\n")
    shown = [key for key in SHOWN if all(key in done["results"] for done in curves)]
    plot(curves, DOCS / "images" / f"{comparison}.png", shown[1:])
    make_tables.main()


if __name__ == "__main__":
    main(*sys.argv[1:])
