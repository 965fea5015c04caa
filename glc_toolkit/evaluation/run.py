"""``glc eval``: several codecs on a folder of pictures, row by row, to results that can be taken up again."""

import csv
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from glc_toolkit import __version__, clips, io, registry
from glc_toolkit.evaluation import patches, protocols, video
from glc_toolkit.evaluation.evaluate import METRICS, TEXT, coded, measure, measure_frames, summary, trial
from glc_toolkit.evaluation.family import Family
from glc_toolkit.facts import plain

SPELLING = {"psnr": "psnr-rgb", "ms-ssim": "ms-ssim-rgb"}  # CompressAI's names
# Keys of a row that come before metrics; the last two are of clips.
COSTS = ("width", "height", "bytes", "bpp", "encoding_time", "decoding_time", "memory", "frames", "flicker")
FRAMES = 96  # of a clip, if it has so many
ROWS = "rows.jsonl"


def run(
    folder: Path,
    pictures: list[Path],
    codecs: list[tuple[Family, list]],
    metrics: Iterable[str] = METRICS,
    match_bpp: Iterable[float] = (),
    out: Path | None = None,
    protocol: str | None = None,
    command: str = "",
    progress: Callable[[], object] = lambda: None,
    max_pixels: int | None = None,
    frames: int = FRAMES,
) -> Iterator[dict]:
    """Measure every codec at every setting on every picture or clip; yields a result for each codec, in the layout that
    docs/evaluation.md describes.

    Args:
        folder: where the pictures lie; rows name them from there.
        codecs: families with settings, as :func:`glc_toolkit.evaluation.codecs.named` gives them.
        match_bpp: sizes to code every picture at, by the nearest setting; they take the place of settings.
        out: folder to write rows and results to. Rows that are there already are not measured again.
        protocol: a name of :data:`protocols.PINNED`; other pictures than those of its set are refused.
        progress: called after every row.
        max_pixels: of a picture, as :func:`io.to_tensor` takes it.
        frames: of a clip, from its start, that are coded and measured.
    """
    metrics, match_bpp = list(dict.fromkeys(metrics)), list(dict.fromkeys(match_bpp))
    names = [family.name for family, _ in codecs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{', '.join(sorted(twice))} is given twice; give all its settings at once")
    digests = {path: protocols.digest(path) for path in pictures}
    facts = protocols.describe(digests.values(), metrics, protocol)
    session = Session(folder, digests, metrics, Store(out), max_pixels, frames)
    for family, settings in codecs:
        results: dict[str, list] = {}
        rows = []
        for setting in match_bpp or settings:
            group = []
            for path in pictures:
                group.append(session.row(path, family, setting, bool(match_bpp)))
                progress()
            for name, value in session.means(family, group).items():
                if name not in ("width", "height", "frames"):
                    results.setdefault(name, []).append(value)
            rows += group
        result = {
            "name": family.name,
            "description": family.version,
            "results": results,
            "settings": list(dict.fromkeys(row["setting"] for row in rows)),
            "protocol": facts,
            "images": rows,
            "command": command,
        }
        if out:
            write(result, out / f"{family.name}.json")
        yield result


class Session:
    """The rows of a run, measured or taken from its store, and their means."""

    def __init__(
        self,
        folder: Path,
        digests: dict[Path, str],
        metrics: list[str],
        store: "Store",
        max_pixels: int | None,
        frames: int,
    ):
        self.folder, self.digests, self.store = folder, digests, store
        self.max_pixels, self.frames = max_pixels, frames
        self.sets = [m for m in metrics if m in patches.NAMES]  # metrics of all pictures together
        self.distances = {m: registry.build("metric", {"name": m}) for m in metrics if m not in patches.NAMES}
        self.networks = {name: patches.build(name) for name in dict.fromkeys(map(patches.network, self.sets))}

    def row(self, path: Path, family: Family, setting, matched: bool) -> dict:
        """What a picture or a clip gave at a setting, or if ``matched`` at the size nearest to ``setting`` bpp."""
        clip = path.suffix.lower() in clips.SUFFIXES
        if clip and (matched or self.networks):
            raise ValueError(f"{path} is a clip, which takes settings and metrics of single frames")
        label = f"{setting:g} bpp" if matched else str(setting)
        identity: dict = {"setting": label, "image": name_of(path, self.folder), "sha256": self.digests[path]}
        if clip:
            identity["frames"] = self.frames
        wanted = [SPELLING.get(m, m) for m in self.distances]
        row = self.store.row(family, identity, wanted, self.networks)
        if row is None:
            if clip:
                measured = self.clip(path, family, setting)
            else:
                measured = self.picture(path, family, setting, matched, key(family, identity))
            row = self.store.add(family, identity | measured)
        return {k: row[k] for k in (*TEXT, *COSTS, *wanted) if k in row}  # it may have been measured by more

    def picture(self, path: Path, family: Family, setting, matched: bool, place: str) -> dict:
        """Code and measure a picture; its features go to the store, the decoded picture's under the key ``place``."""
        x, row = io.to_tensor(path, self.max_pixels), {}
        if matched:
            setting = family.nearest(io.to_pillow(x), setting * x.shape[-2] * x.shape[-1] / 8)
            row["matched"] = str(setting)
        codec = family.codec(setting)
        costs, x_hat = coded(x, codec.encode, codec.decode)
        for name, network in self.networks.items():
            for under, pixels in (("", x), (place, x_hat)):
                self.store.put_features(name, self.digests[path], under, partial(patches.features, network, pixels))
        return row | costs | spelled(measure(x_hat, x, self.distances))

    def clip(self, path: Path, family: Family, setting) -> dict:
        """Code and measure the first frames of a clip; metrics are means over them."""
        clip, originals = video.read(path, self.frames)
        codec = family.clip_codec(setting)
        tried = trial(originals, lambda signal: codec.encode(signal, clip.fps), codec.decode)
        flicker = video.flicker(tried.decoded, originals) if len(originals) > 1 else math.nan
        values = measure_frames(tried.decoded, originals, self.distances)
        return tried.costs | {"flicker": flicker} | spelled(values)

    def means(self, family: Family, rows: list[dict]) -> dict[str, float]:
        """Means over rows of one setting, and the metrics of all their pictures together."""
        means = summary(rows)
        for metric in self.sets:
            network = patches.network(metric)
            x = np.concatenate([self.store.features(network, row["sha256"], "") for row in rows])
            x_hat = np.concatenate([self.store.features(network, row["sha256"], key(family, row)) for row in rows])
            means[metric] = patches.distance(metric, x, x_hat)
        return means


def spelled(values: dict[str, float]) -> dict[str, float]:
    """Metrics by the names that files of results have."""
    return {SPELLING.get(name, name): value for name, value in values.items()}


def name_of(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if folder.is_dir() else path.name


def key(family: Family, row: dict) -> str:
    same = (family.name, family.version, __version__, row["setting"])
    return hashlib.sha256("\n".join(same).encode()).hexdigest()[:16]


class Store:
    """Rows and features in memory, and on disk if there is a folder: a run that was cut off goes on from there.

    A row is found again if codec, version, setting, toolkit and the picture's bytes are the same, and if it has all
    metrics.
    """

    def __init__(self, folder: Path | None):
        self.folder = folder
        self.rows: dict[tuple, dict] = {}
        self.arrays: dict[tuple, np.ndarray] = {}
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            for key, row in self._read(folder / ROWS):
                self.rows[key] = {k: math.nan if v is None else v for k, v in row.items()}

    def _read(self, file: Path) -> Iterator[tuple[tuple, dict]]:
        try:
            lines = file.read_text("utf-8").split("\n") if file.is_file() else [""]
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} is not in UTF-8; remove it, or give another folder") from error
        for number, line in enumerate(lines[:-1], 1):
            try:
                entry = json.loads(line)
                yield tuple(entry["key"]), dict(entry["row"])
            except (ValueError, KeyError, TypeError, RecursionError):
                raise ValueError(f"line {number} of {file} is no row; remove it, or give another folder") from None
        if lines[-1]:  # cut off while it was written
            with io.replacing(file) as partial:
                partial.write_text("".join(f"{line}\n" for line in lines[:-1]), "utf-8")

    @staticmethod
    def _key(family: Family, row: dict) -> tuple:
        clip = [f"{row['frames']} frames"] if "frames" in row else []
        return (family.name, family.version, __version__, row["setting"], row["image"], row["sha256"], *clip)

    def row(self, family: Family, row: dict, metrics: Iterable[str], networks: Iterable[str]) -> dict | None:
        """The row with this identity, if it is there with all metrics and features."""
        found = self.rows.get(self._key(family, row))
        if found is None or any(m not in found for m in metrics):
            return None
        wanted = [(net, row["sha256"], k) for net in networks for k in ("", key(family, row))]
        return found if all(self._has(*w) for w in wanted) else None

    def add(self, family: Family, row: dict) -> dict:
        """Keep a row, together with metrics of the same row from before; returns both."""
        whole = {**self.rows.get(self._key(family, row), {}), **row}
        self.rows[self._key(family, row)] = whole
        if self.folder:
            with (self.folder / ROWS).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": self._key(family, row), "row": plain(whole)}) + "\n")
        return whole

    def put_features(self, net: str, picture: str, key: str, make: Callable[[], np.ndarray]) -> None:
        if self._has(net, picture, key):
            return
        if not self.folder:
            self.arrays[net, picture, key] = make()
            return
        file = feature_file(self.folder, net, picture, key)
        file.parent.mkdir(exist_ok=True)
        with io.replacing(file) as partial:
            np.save(partial, make(), allow_pickle=False)

    def features(self, net: str, picture: str, key: str) -> np.ndarray:
        if not self.folder:
            return self.arrays[net, picture, key]
        return np.load(feature_file(self.folder, net, picture, key), allow_pickle=False)

    def _has(self, net: str, picture: str, key: str) -> bool:
        if not self.folder:
            return (net, picture, key) in self.arrays
        return feature_file(self.folder, net, picture, key).is_file()


def feature_file(folder: Path, net: str, picture: str, key: str) -> Path:
    """Where a :class:`Store` keeps the features of a picture: of the original, if there is no ``key``."""
    return folder / "features" / f"{net}-{picture[:16]}-{key or 'original'}.npy"


def write(result: dict, file: Path) -> None:
    """The result as JSON in ``file``, and its rows as CSV beside it."""
    with io.replacing(file) as partial:
        partial.write_text(json.dumps(plain(result), indent=1, allow_nan=False) + "\n", "utf-8")
    csv_file = file.with_suffix(".csv")
    with (
        io.replacing(csv_file) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as lines,  # names may be any bytes
    ):
        writer = csv.DictWriter(lines, ["codec", *result["images"][0]])
        writer.writeheader()
        rows = ({"codec": result["name"], **row} for row in cast(list, plain(result["images"])))
        writer.writerows({key: as_text(value) for key, value in row.items()} for row in rows)


def as_text(value: object) -> object:
    """A cell of a table that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
