"""Trained models: a folder each, with config, card, weights and checksums.

    config.json        the model config: components and their arguments
    model.safetensors  weights and coding tables, the same config in its metadata
    README.md          the card: what it was trained on, and measured numbers
    SHA256SUMS         of the files above

Weights are stored in float16, but for the convolutions that only an encoder runs: those take 8 bits and a scale for
each output channel. A decoder's symbols do not depend on them, and a picture hardly does.

Shipped models are found by name; ``GLC_ZOO`` may name further folders of models (separated as in ``PATH``); plugins
bring theirs through the hook ``glc_zoo``; ``hf://owner/name`` is fetched from the Hugging Face hub and cached.
"""

import copy
import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from glc_toolkit import __version__, registry
from glc_toolkit.models.image import ENCODER_ONLY, GLCImage
from glc_toolkit.types import BitstreamError, ModelFileError

CONFIG, WEIGHTS, CARD, SUMS = "config.json", "model.safetensors", "README.md", "SHA256SUMS"
FORMAT = "glc-toolkit/1"
SCALE = "::scale"  # after the name of a tensor stored in 8 bits
FACTS = "glc_toolkit"  # the key of our metadata in a weights file


def folders() -> dict[str, Path]:
    """``{name: folder}`` of every model that can be loaded by name."""
    found = {name: Path(folder) for name, (folder, _) in registry.named("glc_zoo").items()}
    for place in filter(None, os.environ.get("GLC_ZOO", "").split(os.pathsep)):
        found |= {path.parent.name: path.parent for path in Path(place).glob(f"*/{CONFIG}")}
    return found


def list_models() -> list[str]:
    """Names of the models, sorted."""
    return sorted(folders())


def locate(model: str | os.PathLike) -> Path:
    """The folder of a model: a name, a folder, or ``hf://owner/name`` (downloaded if not cached)."""
    text = os.fspath(model)
    if text.startswith("hf://"):
        return _from_hub(text[len("hf://") :])
    if text in (found := folders()):
        return found[text]
    if (Path(text) / CONFIG).is_file():
        return Path(text)
    raise ModelFileError(
        f"no model {text!r}: it is neither a folder with {CONFIG} nor one of {', '.join(found) or 'none'}"
    )


def load(model: str | os.PathLike, device: str | torch.device = "cpu") -> GLCImage:
    """A model ready to use: evaluation mode, coding tables in place.

    ``model`` is a name of :func:`list_models`, a folder, or ``hf://owner/name``. Raises :class:`ModelFileError` that
    says what is missing or wrong and where.
    """
    return copy.deepcopy(_load(locate(model).resolve())).to(device)


@lru_cache(maxsize=4)
def _load(folder: Path) -> GLCImage:
    verify(folder)
    path = folder / WEIGHTS
    facts = _facts(path)
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    missing = [p for p in facts["requires"] if not registry.manager().has_plugin(p)]
    if missing:
        raise ModelFileError(f"{folder.name} needs plugins that are not installed: {', '.join(missing)}")
    try:
        model = GLCImage(facts["config"])
    except (ValueError, TypeError) as error:
        raise ModelFileError(f"{path}: its config does not build: {error}") from error
    bad = [key for key, t in tensors.items() if t.is_floating_point() and not torch.isfinite(t).all()]
    if bad:
        raise ModelFileError(f"{path}: not finite: {', '.join(bad[:5])}")
    tensors = _unpack(tensors)
    try:
        model.load_state_dict({**tensors, "_extra_state": model.get_extra_state()})
    except RuntimeError as error:
        raise ModelFileError(f"{path} does not fit its config: {' '.join(str(error).split())[:500]}") from error
    return model.eval()


def verify(folder: Path) -> None:
    """Check every file of a model folder against its SHA256SUMS."""
    sums = folder / SUMS
    if not sums.is_file():
        raise ModelFileError(f"{folder} has no {SUMS}")
    listed = dict(reversed(line.split("  ", 1)) for line in sums.read_text().splitlines() if "  " in line)
    if WEIGHTS not in listed:
        raise ModelFileError(f"{sums} does not list {WEIGHTS}")
    for name, expected in listed.items():
        if Path(name).name != name:
            raise ModelFileError(f"{sums} names {name!r}, which is outside its folder")
        if not (folder / name).is_file():
            raise ModelFileError(f"{folder} lacks {name}, which {SUMS} lists")
        if _sha256(folder / name) != expected:
            raise ModelFileError(f"{folder / name} is damaged: its sha256 is not that of {SUMS}; fetch it again")


def save(model: GLCImage, folder: str | os.PathLike, name: str, card: str = "") -> Path:
    """Write a trained model as a zoo folder; coding tables are made from the weights as they are stored."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = copy.deepcopy(model).cpu().train()
    model.config = {**model.config, "name": name}
    stored = _pack(model)
    model.load_state_dict({**model.state_dict(), **_unpack(stored)})
    model.update(force=True)
    buffers = {name: tensor.clone() for name, tensor in model.named_buffers() if name in model.state_dict()}
    facts = {
        "format": FORMAT,
        "config": model.config,
        "requires": _plugins_of(model.config),
        "fingerprint": model.fingerprint().hex(),
        "glc_toolkit": __version__,
    }
    # One key: safetensors writes several in any order, and the same model should give the same bytes.
    save_file({**stored, **buffers}, folder / WEIGHTS, {FACTS: json.dumps(facts, sort_keys=True)})
    (folder / WEIGHTS).chmod(0o644)  # safetensors writes for the owner alone
    (folder / CONFIG).write_text(json.dumps(model.config, indent=2, sort_keys=True) + "\n")
    (folder / CARD).write_text(card or f"# {name}\n")
    write_sums(folder)
    _load.cache_clear()
    return folder


def write_sums(folder: Path) -> None:
    """Renew SHA256SUMS, after the card was edited say."""
    names = [name for name in (CONFIG, WEIGHTS, CARD) if (folder / name).is_file()]
    (folder / SUMS).write_text("".join(f"{_sha256(folder / name)}  {name}\n" for name in names))


def info(model: str | os.PathLike) -> dict:
    """Config, size and provenance of a model, without building it."""
    folder = locate(model)
    verify(folder)
    facts = _facts(folder / WEIGHTS)
    with safe_open(folder / WEIGHTS, "pt") as file:
        sizes = [file.get_slice(key).get_shape() for key in file.keys()]
    return {
        "name": folder.name,
        "folder": str(folder),
        "bytes": (folder / WEIGHTS).stat().st_size,
        "parameters": sum(torch.Size(size).numel() for size in sizes),
        "fingerprint": facts["fingerprint"],
        "requires": facts["requires"],
        "config": facts["config"],
    }


def by_fingerprint(start: bytes) -> GLCImage:
    """The known model whose fingerprint starts so. Raises :class:`BitstreamError` if there is none."""
    for folder in folders().values():
        try:
            fingerprint = _facts(folder / WEIGHTS)["fingerprint"]
        except ModelFileError:
            continue  # a broken folder must not keep the others from being found
        if fingerprint.startswith(start.hex()):
            return load(folder)
    raise BitstreamError(
        f"no known model has the fingerprint {start.hex()} that this file needs; "
        f"known are {', '.join(list_models()) or 'none'}. Give the model that wrote it."
    )


def register_with_compressai() -> None:
    """Make every zoo model known to ``compressai.zoo`` and its ``eval_model`` command, under its own name."""
    from compressai.zoo import image_models
    from compressai.zoo.image import model_architectures

    model_architectures["glc-image"] = GLCImage
    for name in list_models():

        def pretrained(quality: int, metric: str = "mse", pretrained: bool = True, progress: bool = False, name=name):
            model = load(name)
            model.default_quality = float(quality - 1)  # CompressAI counts from one
            return model

        image_models[name] = pretrained


def _pack(model: GLCImage) -> dict[str, torch.Tensor]:
    """Parameters as they are stored: see the top of this file."""
    convolutions = {f"{name}.weight" for name, m in model.named_modules() if isinstance(m, torch.nn.Conv2d)}
    stored = {}
    for name, parameter in model.named_parameters():
        value = parameter.detach()
        if name.startswith(ENCODER_ONLY) and name in convolutions:
            scale = value.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12) / 127
            stored[name] = (value / scale).round().to(torch.int8).contiguous()
            stored[name + SCALE] = scale.contiguous()
        else:
            stored[name] = value.half().contiguous()
    return stored


def _unpack(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What :func:`_pack` stored, in float32; other tensors as they are."""
    tensors = {}
    for name, value in stored.items():
        if name.endswith(SCALE):
            continue
        if value.dtype == torch.int8 and name + SCALE in stored:
            value = value.float() * stored[name + SCALE]
        tensors[name] = value.float() if value.dtype == torch.float16 else value
    return tensors


def _facts(path: Path) -> dict:
    """Our metadata of a weights file, checked to be whole."""
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get(FACTS, "null"))
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise ModelFileError(f"{path} cannot be read: {error}") from error
    if not isinstance(facts, dict):
        raise ModelFileError(f"{path} holds no glc-toolkit model")
    if facts.get("format") != FORMAT:
        raise ModelFileError(f"{path} has format {facts.get('format')!r}; this version reads {FORMAT!r}")
    kinds = {"config": dict, "requires": list, "fingerprint": str}
    bad = [key for key, kind in kinds.items() if not isinstance(facts.get(key), kind)]
    if bad:
        raise ModelFileError(f"{path} lacks {', '.join(bad)} in its metadata")
    return facts


def _plugins_of(config: dict) -> list[str]:
    """Plugins other than the built-in one that a config's components come from."""
    found = set()
    kinds = {slot: slot for slot in registry.KINDS}

    def visit(value: dict) -> None:
        for key, inner in value.items():
            if isinstance(inner, dict):
                if key in kinds and "name" in inner:
                    found.add(registry.plugin_of(key, inner["name"]))
                visit(inner)

    visit(config)
    return sorted(found - {registry.BUILTIN})


def _from_hub(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    wanted = [CONFIG, WEIGHTS, CARD, SUMS]
    try:
        return Path(snapshot_download(repository, allow_patterns=wanted))
    except RepositoryNotFoundError as error:
        raise ModelFileError(f"the hub has no repository {repository!r}, or it is private") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise ModelFileError(f"hf://{repository} is not cached and cannot be fetched: {error}") from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
