"""A trained model as one safetensors file: weights, coding tables and, in the metadata, the config to build it by.

Weights are stored in float16, but for the convolutions that no decoder's symbol depends on: those that only an encoder
runs, and those that make pixels of a decoded latent. They take 8 bits and a scale for each output channel (of the
shipped model's generator that makes a difference of 54 dB and more, and none to LPIPS). On request all are float32.
A model that is ready to code keeps every bit that a decoder uses, in float32 where it takes that: its streams are to be
decoded by what is stored.

A file may come from anywhere. :func:`read` answers whatever is wrong in it with :class:`ModelFileError`, and takes no
more memory than its size warrants.
"""

import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from glc_toolkit import __version__, models, registry
from glc_toolkit.coder import PRECISION
from glc_toolkit.components.entropy.categorical import CategoricalTable
from glc_toolkit.components.entropy.factorized import FactorizedTable
from glc_toolkit.components.entropy.gaussian import GaussianTable
from glc_toolkit.components.entropy.tables import TableCoding
from glc_toolkit.models import GLCModel
from glc_toolkit.types import ModelFileError

FORMAT = "glc-toolkit/1"
SCALE = "::scale"  # after the name of a tensor stored in 8 bits
FACTS = "glc_toolkit"  # the key of our metadata
TOO_LARGE = "its config asks for far more than the tensors that are stored"


def write(model: GLCModel, path: Path, exact: bool | None = None) -> None:
    """Store ``model`` (on the CPU, in evaluation mode), which is left as it is stored: rounded as :func:`pack` says,
    its tables new."""
    stored = pack(model, exact)
    model.load_state_dict({**model.state_dict(), **unpack(stored)})
    model.update(force=True)
    buffers = {name: tensor.clone() for name, tensor in model.named_buffers() if name in model.state_dict()}
    facts = {
        "format": FORMAT,
        "config": model.config,
        "requires": plugins_of(model.config),
        "fingerprint": model.fingerprint().hex(),
        "glc_toolkit": __version__,
    }
    # One key: safetensors writes several in any order, and the same model should give the same bytes.
    try:
        save_file({**stored, **buffers}, path, {FACTS: json.dumps(facts, sort_keys=True)})
    except SafetensorError as error:  # how it names a full disk, too
        raise OSError(str(error)) from error
    path.chmod(0o644)  # safetensors writes for the owner alone


def read(path: Path) -> GLCModel:
    """The model of a weights file, in evaluation mode. Raises :class:`ModelFileError`."""
    facts = read_facts(path)
    missing = [plugin for plugin in facts["requires"] if not registry.manager().has_plugin(plugin)]
    if missing:
        raise ModelFileError(f"{path} needs plugins that are not installed: {', '.join(missing)}")
    try:
        return rebuild(path, facts)
    except Exception as error:  # components may answer arguments they never expected in any way
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ModelFileError(f"{path} holds no sound model: {kind}{' '.join(str(error).split())[:500]}") from error


def read_facts(path: Path) -> dict:
    """The metadata of a weights file, checked to be whole: ``config``, ``requires``, ``fingerprint``."""
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get(FACTS, "null"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} cannot be read: {error}") from error
    if not isinstance(facts, dict):
        raise ModelFileError(f"{path} holds no glc-toolkit model")
    if facts.get("format") != FORMAT:
        raise ModelFileError(f"{path} has format {facts.get('format')!r}; this version reads {FORMAT!r}")
    kinds = {"config": dict, "requires": list, "fingerprint": str}
    bad = [key for key, kind in kinds.items() if not isinstance(facts.get(key), kind)]
    if bad:
        raise ModelFileError(f"{path} lacks {', '.join(bad)} in its metadata")
    if not all(isinstance(plugin, str) for plugin in facts["requires"]):
        raise ModelFileError(f"{path} requires {facts['requires']!r}, which are not all names of plugins")
    return facts


def rebuild(path: Path, facts: dict) -> GLCModel:
    """The model; a bad one raises ``ValueError``, or what PyTorch and its components think fit."""
    with safe_open(path, "pt") as file:
        tensors = unpack({key: file.get_tensor(key) for key in file.keys()})
    elements = 2 * sum(tensor.numel() for tensor in tensors.values()) + 2**22
    if any(abs(number) > elements for number in numbers(facts["config"])):
        raise ValueError(TOO_LARGE)
    with Budget(elements):
        model = models.build(facts["config"]).float()  # whatever the default is
    own = model.state_dict()
    for name, stored in tensors.items():
        wanted = own.get(name, stored)
        if stored.dtype != wanted.dtype and not (stored.is_floating_point() and wanted.is_floating_point()):
            raise ValueError(f"{name} is of {stored.dtype}, not {wanted.dtype}")
    model.load_state_dict({**tensors, **{name: own[name] for name in own if name.endswith("_extra_state")}})
    for name, part in model.named_modules():
        if isinstance(part, TableCoding):
            check_tables(name, part)
    model.eval()
    model.quality_of(model.quality_code(None))  # the default is one of its levels, and a byte holds them
    model.dry_run()
    if (fingerprint := model.fingerprint().hex()) != facts["fingerprint"]:
        raise ValueError(f"its metadata promise the fingerprint {facts['fingerprint']}, its weights have {fingerprint}")
    return model


def numbers(config: object) -> Iterator[float]:
    """Every number in a config."""
    if isinstance(config, (int, float)):
        yield config
    elif isinstance(config, (dict, list)):
        for inner in config.values() if isinstance(config, dict) else config:
            yield from numbers(inner)


class Budget(TorchDispatchMode):
    """Refuses tensors beyond so many elements in all, before they take memory: sizes in a config can be anything.

    Each tensor costs a little by itself, so that a loop without end has one.
    """

    def __init__(self, elements: int):
        super().__init__()
        self.left = elements

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled in here. PyTorch's guard against it would import ``torch._dynamo``, 1.5 s."""
        return False

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if op is torch.ops.aten.repeat.default:
            self.left -= args[0].numel() * math.prod(args[1])
        elif op is torch.ops.aten.linspace.default:  # on the meta device it imports sympy, half a second
            self.left -= 1024 + args[2]
        elif op.overloadpacket is torch.ops.aten.arange and all(isinstance(arg, int) for arg in args):
            self.left -= 1024 + len(range(*args))  # likewise, and it imports torch._dynamo, another second
        elif not any(isinstance(arg, Tensor) for arg in args):  # made of sizes alone
            self.left -= 1024 + op(*args, **{**kwargs, "device": "meta"}).numel()
        if self.left < 0:
            raise ValueError(TOO_LARGE)
        return op(*args, **kwargs)


def check_tables(name: str, part: TableCoding) -> None:
    """What :mod:`glc_toolkit.coder` relies on, and that the tables are those of this entropy model."""
    cdf, offset, length = part._quantized_cdf.long(), part._offset, part._cdf_length
    if cdf.ndim != 2 or not offset.shape == length.shape == cdf.shape[:1]:
        shapes = ", ".join(str(tuple(t.shape)) for t in (cdf, offset, length))
        raise ValueError(f"the coding tables of {name} have shapes {shapes}, which do not belong together")
    rows, symbols, first = layout(part) or (len(cdf), cdf.shape[1] - 1, offset)
    if cdf.shape != (rows, symbols + 1) or (offset != first).any() or (length != symbols + 1).any():
        raise ValueError(f"the coding tables of {name} are not {rows} of {symbols} symbols from {first}")
    if not ((cdf.diff() > 0).all() and (cdf[:, 0] == 0).all() and (cdf[:, -1] == 2**PRECISION).all()):
        raise ValueError(f"the coding tables of {name} do not rise from 0 to 2**{PRECISION}")


def layout(part: TableCoding) -> tuple[int, int, int] | None:
    """Rows, symbols and first symbol of the tables that a built-in entropy model makes; None for one of a plugin."""
    match part:
        case CategoricalTable():
            rows, symbols = part.logits.shape
            return rows, symbols, 0
        case GaussianTable():
            return len(part.scale_table), 2 * part.max_symbol + 1, -part.max_symbol
        case FactorizedTable():
            return part.channels, 2 * part.max_symbol + 1, -part.max_symbol
    return None


def pack(model: GLCModel, exact: bool | None = None) -> dict[str, Tensor]:
    """Parameters as they are stored: see the top of this file. One that has several names is stored under each.

    ``exact`` says whether all are stored in float32. None stores so what rounding would change for a decoder, if the
    model is ready to code, and nothing else.
    """
    modules = model.named_modules(remove_duplicate=False)
    convolutions = {f"{name}.weight" for name, m in modules if isinstance(m, torch.nn.Conv2d)}
    keep = exact is None and model.is_ready
    idle = tuple(name for name in model.encoder_only if "hyper." not in name)  # the tables are made of the hyper module
    stored, kept, changed = {}, model.state_dict(), 0
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name not in kept:  # NoQuantiles
            continue
        value = parameter.detach().float()
        rounded = {name: value.half()}
        if name.startswith((*model.encoder_only, *model.pixels_only)) and name in convolutions:
            scale = scale_of(value)
            rounded = {name: (value / scale).round().to(torch.int8), name + SCALE: scale}
        needed = keep and not name.startswith(idle) and not same(rounded, name, value)
        changed += needed
        if exact or needed:
            rounded = {name: value.clone()}
        stored |= {key: tensor.contiguous() for key, tensor in rounded.items()}
    if changed:
        warnings.warn(
            f"{changed} tensors are stored in float32, since the model has tables and its streams are to be decoded; "
            "exact=False stores a smaller model, which decodes none of them",
            stacklevel=4,
        )
    return stored


def same(rounded: dict[str, Tensor], name: str, value: Tensor) -> bool:
    """Whether what is stored of ``name`` gives ``value`` again."""
    read = rounded[name].float() * rounded.get(name + SCALE, 1.0)
    return torch.equal(read, value)


def scale_of(value: Tensor) -> Tensor:
    """What one of 127 steps is, for each output channel (C, 1, 1, 1) of ``value``. What was read from a file gets the
    scale that it had there, which a division gives but for the last bit."""
    scale = value.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12) / 127
    for near in (torch.nextafter(scale, torch.inf * scale), torch.nextafter(scale, torch.zeros_like(scale))):
        wrong, right = (((value / s).round() * s != value).flatten(1).any(1) for s in (scale, near))
        scale = torch.where((wrong & ~right)[:, None, None, None], near, scale)
    return scale


def unpack(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as a model takes them, floats in float32. Raises ``ValueError`` for what :func:`pack` never stores."""
    tensors = {}
    for name, value in stored.items():
        if name.endswith(SCALE):
            if name.removesuffix(SCALE) not in stored:
                raise ValueError(f"{name} is the scale of a tensor that the file lacks")
            continue
        if (scale := stored.get(name + SCALE)) is not None:
            if value.dtype != torch.int8 or scale.shape != (*value.shape[:1], *(1 for _ in value.shape[1:])):
                raise ValueError(f"{name + SCALE} has shape {tuple(scale.shape)}, its tensor {tuple(value.shape)}")
            value = value.float() * scale.float()
        tensors[name] = value.float() if value.is_floating_point() else value
    if bad := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
        raise ValueError(f"not finite: {', '.join(bad[:5])}")
    return tensors


def plugins_of(config: dict) -> list[str]:
    """Plugins other than the built-in one that a config's components come from."""
    found = set()

    def visit(value: dict) -> None:
        for key, inner in value.items():
            if isinstance(inner, dict):
                if key in registry.KINDS and "name" in inner:
                    found.add(registry.plugin_of(key, inner["name"]))
                visit(inner)

    visit(config)
    return sorted(found - set(registry.BUILTINS))
