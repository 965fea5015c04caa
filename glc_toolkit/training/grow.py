"""Start from the weights of a zoo model. Its config is the same, but for parts that begin anew and for its depth.

A new residual block adds nothing at first, and a new residual head draws what the plain one draws: the first step sees
what the shallower model draws (as in Net2Net; Chen et al., ICLR 2016). From a deeper model, the last blocks of each
level are left out.
"""

from collections.abc import Iterable
from typing import TypeGuard, cast

import torch
from einops import rearrange
from torch import Tensor, nn

from glc_toolkit import zoo
from glc_toolkit.components.backbones.vqgan import Generator
from glc_toolkit.models import GLCModel
from glc_toolkit.types import Block


def state_from(model: GLCModel, name: str, anew: list[str]) -> dict[str, Tensor]:
    """A state dict for ``model`` from the zoo model ``name``. Parts named by ``anew`` stay as they are in ``model``.

    Raises ``ValueError`` that says which weights do not fit.
    """
    start = zoo.load(name).train()
    check_parts(model, anew, "anew")
    for part in anew:
        start.set_submodule(part, model.get_submodule(part))
    state = grow(model, start)
    own = model.state_dict()
    other = {n for n, p in model.named_parameters() if n in own and (n not in state or state[n].shape != p.shape)}
    if other := sorted(other | set(state) - set(own)):
        raise ValueError(
            f"{', '.join(other[:3])}{', ...' if len(other) > 3 else ''}: not as in {name}, which the recipe starts "
            "from; give the model the same config, or list the parts that differ under anew"
        )
    return state


def check_parts(model: GLCModel, parts: Iterable[str], where: str) -> None:
    """Raise ``ValueError`` if ``where`` names parts that ``model`` lacks."""
    if unknown := set(parts) - {name for name, _ in model.named_modules()}:
        slots = ", ".join(model.slots)
        raise ValueError(f"{where} names {', '.join(sorted(unknown))}; the model has {slots} and what is in these")


def grow(model: nn.Module, start: nn.Module) -> dict[str, Tensor]:
    """A state dict for ``model`` from that of ``start``, whose sequences of layers may have fewer or more residual
    blocks, and whose generator may have a plain head.

    Raises ``ValueError`` if a sequence differs in anything else; ``load_state_dict`` will say what differs elsewhere.
    """
    state = start.state_dict()
    inside = dict(start.named_modules())
    for name, layers in model.named_modules():
        given = inside.get(name)
        if isinstance(layers, nn.Sequential) and isinstance(given, nn.Sequential) and len(layers) != len(given):
            old = {key: state.pop(key) for key in list(state) if key.startswith(f"{name}.")}
            plain = isinstance(inside[name.rpartition(".")[0]], Generator) and len(given) == 2  # a convolution, pixels
            state |= state_of_head(name, layers, given) if plain else state_at_depth(name, layers, given, old)
    return state


def state_at_depth(name: str, layers: nn.Sequential, given: nn.Sequential, old: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state ``old`` of ``given``, under the places that the same layers have in ``layers``."""
    state, done = {}, 0
    for i, layer in enumerate(layers):
        while (
            done < len(given)
            and signature(layer) != signature(given[done])
            and optional(given[done])
            and not optional(layer)
        ):
            done += 1
        if done < len(given) and signature(layer) == signature(given[done]):
            head = f"{name}.{done}."
            state |= {f"{name}.{i}.{key[len(head) :]}": value for key, value in old.items() if key.startswith(head)}
            done += 1
        elif optional(layer):
            state |= {f"{name}.{i}.{key}": value for key, value in adding_nothing(layer).items()}
        else:
            break
    if len(state) < len(layers.state_dict()) or not all(map(optional, given[done:])):
        raise ValueError(f"{name} is not that of the model to start from with residual blocks added or left out")
    return state


def optional(layer: nn.Module) -> TypeGuard[Block]:
    """Whether a sequence can do without ``layer``, or have it added."""
    return isinstance(layer, Block) and layer.last is not None


def state_of_head(name: str, layers: nn.Sequential, plain: nn.Sequential) -> dict[str, Tensor]:
    """The state of a residual head that draws what the ``plain`` one draws. Each position of the finer grid holds its
    pixels in its first features, and the last convolution takes them from there."""
    first, last, blocks = cast(nn.Conv2d, layers[0]), cast(nn.Conv2d, layers[-2]), layers[2:-2]
    old, half = cast(nn.Conv2d, plain[0]), cast(nn.PixelShuffle, layers[-1]).upscale_factor
    pixels = last.out_channels
    if 4 * pixels > first.out_channels:
        raise ValueError(f"{name} has {first.out_channels // 4} features for the {pixels} pixels that each is to hold")
    state = {f"{name}.{key}": value.clone() for key, value in layers.state_dict().items()}
    for key in ("weight", "bias"):
        moved = rearrange(old.get_parameter(key), "(c a b d e) ... -> (c b e a d) ...", a=2, d=2, b=half, e=half)
        state[f"{name}.0.{key}"][: 4 * pixels] = moved.detach()
    for i, block in enumerate(blocks, 2):
        state |= {f"{name}.{i}.{key}": value for key, value in adding_nothing(cast(Block, block)).items()}
    taken = torch.zeros_like(last.weight)
    taken[range(pixels), range(pixels), 1, 1] = 1
    return state | {f"{name}.{len(layers) - 2}.weight": taken, f"{name}.{len(layers) - 2}.bias": torch.zeros(pixels)}


def signature(layer: nn.Module) -> tuple:
    return type(layer).__name__, [parameter.shape for parameter in layer.parameters()]


def adding_nothing(block: Block) -> dict[str, Tensor]:
    """The state of ``block`` with a last layer that gives zero."""
    return {k: torch.zeros_like(v) if k.startswith(f"{block.last}.") else v for k, v in block.state_dict().items()}
