"""The networks of a model as ONNX files, for other runtimes; the coder stays outside, symbols pass between.

    backbone_analysis     x (1, 3, H, W) in [0, 1] -> l
    transform_analysis    l, quality (1,) -> y
    hyper_analysis        y -> symbols of z
    hyper_synthesis       symbols of z -> params (1, 3C, h, w) [step | scales | means] of the first pass
    context_reduction     params -> reduced
    context_K             y_hat so far in units of the step, reduced -> scales, means of pass K, from 1 on
    transform_synthesis   y_hat, quality -> l_hat
    backbone_synthesis    l_hat -> x_hat, unclamped

All networks are in float32. Two machines may not agree on a scale there, so the machine that wrote a stream has to read
it.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from glc_toolkit.models import GLCImage, GLCModel
from glc_toolkit.types import Exportable


def export(model: GLCModel, folder: Path, width: int, height: int) -> list[Path]:
    """Write the networks for pictures of one size, which is padded to multiples of the model's factor.

    Raises ``ValueError`` for a video model, and for a hyper module that is no :class:`glc_toolkit.types.Exportable`."""
    if not isinstance(model, GLCImage):
        raise ValueError("only the networks of a picture model can be written, and this is a video model")
    exportable(model)
    folder.mkdir(parents=True, exist_ok=True)
    model = model.plain()
    for module in model.modules():  # vector-quantize-pytorch asks a tensor whether it is initialized; a graph cannot
        if "initted" in dict(module.named_buffers(recurse=False)):
            del module.initted
            module.initted = True  # pyright: ignore[reportArgumentType]
    x = model.pad(torch.zeros(1, 3, height, width))
    files = []
    with torch.no_grad():
        for name, slot, call, inputs in networks(model, x):
            files.append(folder / f"{name}.onnx")
            network = _Network(model.get_submodule(slot), call).eval()
            torch.onnx.export(network, inputs, files[-1], dynamo=True, external_data=False, verbose=False)
    return files


def networks(model: GLCImage, x: Tensor) -> Iterator[tuple[str, str, Callable, tuple]]:
    """Name, slot, function and example inputs of every network, in the order that a picture passes them."""
    quality, hyper, context = torch.full((1,), model.default_quality), exportable(model), model.context
    l = model.backbone.analysis(x)
    yield "backbone_analysis", "backbone", model.backbone.analysis, (x,)
    y = model.transform.analysis(l, quality)
    yield "transform_analysis", "transform", model.transform.analysis, (l, quality)
    symbols = hyper.symbols(y)
    yield "hyper_analysis", "hyper", hyper.symbols, (y,)
    params = hyper.params(symbols)
    yield "hyper_synthesis", "hyper", hyper.params, (symbols,)
    reduced = context.reduce(params)
    yield "context_reduction", "context", context.reduce, (params,)
    for k in range(1, len(context.masks(y))):
        yield f"context_{k}", "context", partial(context, k), (y, reduced)
    yield "transform_synthesis", "transform", model.transform.synthesis, (y, quality)
    yield "backbone_synthesis", "backbone", model.backbone.synthesis, (l,)


def through_runtime(model: GLCImage, folder: Path) -> GLCImage:
    """A copy of ``model`` whose networks run in ONNX Runtime, from the files that :func:`export` wrote. Coding order
    and coder are the same code. It takes pictures of the exported size only."""
    import onnxruntime

    def network(name: str) -> Callable:
        session = onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
        names = [argument.name for argument in session.get_inputs()]

        def run(*inputs: Tensor) -> Tensor | list[Tensor]:
            feed = {key: t.detach().contiguous().numpy() for key, t in zip(names, inputs, strict=True)}
            outputs = [torch.from_numpy(array) for array in session.run(None, feed)]
            return outputs[0] if len(outputs) == 1 else outputs

        return run

    model = model.plain()
    model.backbone.analysis, model.backbone.synthesis = network("backbone_analysis"), network("backbone_synthesis")
    model.transform.analysis, model.transform.synthesis = network("transform_analysis"), network("transform_synthesis")
    hyper = exportable(model)
    hyper.symbols, hyper.params = network("hyper_analysis"), network("hyper_synthesis")
    model.context.reduce = network("context_reduction")
    passes = {k: network(f"context_{k}") for k in range(1, len(list(folder.glob("context_[0-9]*.onnx"))) + 1)}
    model.get_submodule("context").forward = lambda k, *inputs: passes[k](*inputs)
    return model


def exportable(model: GLCImage) -> Exportable:
    """The hyper module of ``model``. Raises ``ValueError`` for one whose two networks cannot be written."""
    if not isinstance(model.hyper, Exportable):
        raise ValueError(f"the hyper module {model.config['hyper']['name']!r} lacks symbols or params")
    return model.hyper


class _Network(nn.Module):
    """A method of a module, as a module."""

    def __init__(self, owner: nn.Module, call: Callable):
        super().__init__()
        self.owner = owner
        self.call = call

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.call(*inputs)
