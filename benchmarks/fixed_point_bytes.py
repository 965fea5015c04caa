"""What fixed-point entropy parameters cost in bytes: real files of a folder of pictures, against the same model with
its weights as stored, networks in float32 and parameters off the grid.

    python -m benchmarks.fixed_point_bytes ../kodak -q 0 -q 3

Files of the second kind decode only where they were written. Their codes of z are on the grid, too.
"""

import json
import sys
from pathlib import Path

import click
import torch
from safetensors.torch import load_file

from glc_toolkit import api, io, weights, zoo
from glc_toolkit.components import fixed_point
from glc_toolkit.evaluation.evaluate import find


def float_model(name: str):
    """The model ``name`` without fixed-point arithmetic."""
    model = zoo.load(name)
    torch.nn.Module.train(model, False)
    for part in (*model.hyper.exact, model.context):
        fixed_point.to_floating_point(part)
    stored = weights.unpack(load_file(zoo.locate(name) / zoo.WEIGHTS))
    torch.nn.Module.load_state_dict(model, {**stored, "_extra_state": model.get_extra_state()})
    return model


def payload_bytes(model, latents: list[torch.Tensor], quality: float | None) -> list[int]:
    return [len(model.encode_payload(l, model.quality_code(quality))) for l in latents]


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("-m", "--model", default=api.DEFAULT_MODEL)
@click.option("-q", "--quality", type=float, multiple=True, default=[None])
def main(folder: Path, model: str, quality: tuple[float | None]) -> None:
    exact = zoo.load(model)
    latents = [exact.analysis(io.to_tensor(picture)) for picture in find(folder)]
    fixed = {q: payload_bytes(exact, latents, q) for q in quality}
    floating = float_model(model)
    for module in list(sys.modules.values()):
        if getattr(module, "fixed", None) is fixed_point.fixed and module is not fixed_point:
            module.fixed = lambda x: x
    for q in quality:
        other = payload_bytes(floating, latents, q)
        a, b = sum(fixed[q]), sum(other)
        most = max(x / y for x, y in zip(fixed[q], other, strict=True))
        facts = {"quality": q, "fixed": a, "float": b, "more_percent": 100 * (a / b - 1), "most": 100 * (most - 1)}
        print(json.dumps({"pictures": len(latents), **facts}))


if __name__ == "__main__":
    main()
