"""The files of a model's folder, and their checksums.

config.json        the model config: components and their arguments
model.safetensors  weights and coding tables, the same config in its metadata
README.md          the card: what it was trained on, and measured numbers
SHA256SUMS         of the files above
"""

import hashlib
import os
import re
from pathlib import Path

from glc_toolkit.types import ModelFileError

CONFIG, WEIGHTS, CARD, SUMS = FILES = ("config.json", "model.safetensors", "README.md", "SHA256SUMS")


def verify(folder: str | os.PathLike) -> None:
    """Check every file of a model folder against its SHA256SUMS."""
    folder = Path(folder)
    try:
        sums = listed(folder / SUMS)
        for name, expected in sums.items():
            if Path(name).name != name:
                raise ModelFileError(f"{folder / SUMS} names {name!r}, which is outside its folder")
            if not os.path.isfile(folder / name):
                raise ModelFileError(f"{folder} lacks {name!r}, which {SUMS} lists")
            if sha256(folder / name) != expected:
                raise ModelFileError(f"{folder / name} is damaged: its sha256 is not that of {SUMS}; fetch it again")
    except OSError as error:
        raise ModelFileError(f"{folder} cannot be read: {error}") from error


def sha256_of(folder: Path) -> str:
    """The sha256 of the weights in the folder of a model or network."""
    return listed(folder / SUMS)[WEIGHTS]


def listed(sums: Path) -> dict[str, str]:
    """``{file name: sha256}`` of a SHA256SUMS, as ``sha256sum`` writes it in either of its modes."""
    if not os.path.isfile(sums):
        raise ModelFileError(f"{sums.parent} has no {SUMS}")
    lines = sums.read_text("utf-8", errors="replace").splitlines()
    found = [re.fullmatch(r"([0-9A-Fa-f]{64}) [ *](.+)", line) for line in lines]
    sha256s = {line[2]: line[1].lower() for line in found if line}
    if WEIGHTS not in sha256s:
        raise ModelFileError(f"{sums} does not list {WEIGHTS}")
    return sha256s


def write_sums(folder: str | Path) -> None:
    """Renew SHA256SUMS, for instance after the card was edited."""
    folder = Path(folder)
    names = [name for name in (CONFIG, WEIGHTS, CARD) if (folder / name).is_file()]
    (folder / SUMS).write_text("".join(f"{sha256(folder / name)}  {name}\n" for name in names))


def sha256(path: Path) -> str:
    """The sha256 of a file, which may not fit into memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()
