"""Mutated streams, model files and configs: anything but the two errors that bad input may cause is a fault.

    python -m tests.fuzz --seconds 60

Input number i is the same on every run with the same ``--seed``; a fault tells its number, and ``--start i --inputs 1``
repeats it. Each input has a second of processor time, and one more for each megapixel it claims; all of them share
``MEMORY``. A crash or a hang ends the program with the stack it happened in.
"""

import collections
import copy
import faulthandler
import json
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import click
import numpy as np
import torch

from glc_toolkit import BitstreamError, ModelFileError, api, bitstream, videostream, weights, zoo
from glc_toolkit.conformance import tiny
from glc_toolkit.models import GLCImage, GLCVideo

MEMORY = 2**30  # bytes that inputs may take beyond what the program starts with
MAX_PIXELS = 2**14
SECONDS = 1.0  # for an input that claims no picture
HANGING = 30  # seconds of processor time after which an input ends the program
BYTES = [0, 1, 0x7F, 0x80, 0xFF]
VALUES = [None, True, -1, 0, 1, 2, 3, 7, 100, 2**15, 2**31, 2**63, 10**30, 0.5, -1e-9, 1e308, float("inf")]
VALUES += [float("nan"), "", "x", "nearest", "vqgan", "four_part", "../x", [], [1], [[]], {}, {"name": "fsq"}]
QUANTIZER = {"name": "nearest", "args": {"codebook_size": 16}}
CONFIG = {
    "model": "image",
    "channels": 4,
    "levels": 3,
    "backbone": copy.deepcopy(tiny.MODEL["backbone"]),
    "transform": {"name": "gated", "args": {"blocks": 1}},
    "hyper": {"name": "spatial_categorical", "args": {"quantizer": QUANTIZER}},
    "context": {"name": "four_part", "args": {"depth": 1}},
    "entropy_model": {"name": "gaussian", "args": {"scale_levels": 8, "max_symbol": 15}},
}
CONFIG["backbone"]["args"].update(channels=4, latent_channels=4, quantizer=QUANTIZER)
VIDEO = {**tiny.VIDEO, "channels": 4, "image": CONFIG}
VIDEO["hyper"] = {**VIDEO["hyper"], "args": {**VIDEO["hyper"]["args"], "heads": 2}}


# -- mutations ----------------------------------------------------------------------------------------------------


def mutated(data: bytes, dice: random.Random) -> bytes:
    """``data`` with one to a few changes of the kinds that damage and malice make."""
    out = bytearray(data)
    while True:
        at, length = dice.randrange(len(out) + 1), dice.choice([1, 1, 2, 4, 16])
        match dice.randrange(8):
            case 0 if at < len(out):
                out[at] ^= 1 << dice.randrange(8)
            case 1 if at < len(out):
                out[at] = dice.choice(BYTES)
            case 2:
                out[at : at + length] = dice.randbytes(length)
            case 3:
                out[at:at] = dice.randbytes(length)
            case 4:
                del out[at : at + length]
            case 5:
                del out[at:]
            case 6:
                out[at:at] = out[dice.randrange(len(out) + 1) :][:length]
            case 7:
                out += bytes([dice.choice(BYTES)]) * length
        if dice.random() < 0.5:
            return bytes(out)


def mutated_tree(tree: dict, dice: random.Random) -> dict:
    """JSON with one to a few values changed, lost or added somewhere in it."""
    tree = copy.deepcopy(tree)
    while True:
        nodes = list(containers(tree))
        node = dice.choice(nodes)
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = dice.choice(keys) if keys else 0
        match dice.randrange(5):
            case 0 if keys:
                del node[key]
            case 1 if isinstance(node, dict):
                node[dice.choice(["", "name", "args", "quantizer", "levels", "x"])] = dice.choice(VALUES)
            case 2 if keys:
                node[key] = copy.deepcopy(dice.choice(nodes))
            case _ if keys:
                node[key] = copy.deepcopy(dice.choice(VALUES))
        if dice.random() < 0.5:
            return tree


def containers(tree):
    """Every dict and list in a JSON value."""
    if isinstance(tree, (dict, list)):
        yield tree
        for inner in tree.values() if isinstance(tree, dict) else tree:
            yield from containers(inner)


# -- targets: (how many of 1000 inputs, make an input, read it) -------------------------------------------------------


class Streams:
    """Streams of a picture, read by the model that wrote them."""

    def __init__(self, model: GLCImage):
        self.model, fingerprint = model, model.fingerprint()
        model.fingerprint = lambda: fingerprint  # of weights that stay: most of the time would go there
        noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
        sizes = ((64, 64), (128, 100), (1, 1))
        self.seeds = [api.encode(noise[:h, :w], model, quality=q) for q in (0, 2) for h, w in sizes]

    def damaged(self, dice: random.Random) -> bytes:
        while (data := mutated(dice.choice(self.seeds), dice)) in self.seeds:
            pass
        return data

    def forged(self, dice: random.Random) -> bytes:
        """Damaged behind the fingerprint, with a checksum that fits."""
        data = dice.choice(self.seeds)
        head, body = data[:2] + data[4:7], mutated(data[7:], dice)
        return data[:2] + bitstream.crc16(head + body).to_bytes(2, "big") + data[4:7] + body

    def read(self, data: bytes) -> None:
        api.decode(data, self.model, max_pixels=MAX_PIXELS)
        api.info(data, self.model, max_pixels=MAX_PIXELS)

    def seconds(self, data: bytes) -> float:
        """That one may take."""
        try:
            stream = bitstream.parse(data)
            return SECONDS + stream.width * stream.height / 1e6
        except BitstreamError:
            return SECONDS


class Videos:
    """Videos of ten small frames, read by the model that wrote them. ``options`` are of :func:`api.encode_video`."""

    def __init__(self, model: GLCVideo, **options):
        self.model, fingerprint = model, model.fingerprint()
        model.fingerprint = lambda: fingerprint
        noise = np.random.default_rng(0).integers(0, 256, (10, 64, 60, 3), dtype=np.uint8)
        self.seed = b"".join(api.encode_video(list(noise), model, **options))
        self.body = videostream.parse_header(self.seed)[1]
        self.records = list(videostream.records(self.seed, self.body))
        self.varies = videostream.parse_header(self.seed)[0].varies

    def damaged(self, dice: random.Random) -> bytes:
        """Mostly behind the header, where damage is to be got over."""
        start = 0 if dice.random() < 0.1 else self.body
        return self.seed[:start] + mutated(self.seed[start:], dice)

    def forged(self, dice: random.Random) -> bytes:
        """Records lost, repeated, moved, renumbered and changed, with checks that fit."""
        frames = [(frame.number, frame.payload, frame.intra) for frame in self.records]
        quality = dice.randrange(256) if self.varies else None
        while True:
            at = dice.randrange(len(frames))
            number, payload, intra = frames.pop(at)
            match dice.randrange(5):  # 4: it is lost
                case 0:
                    frames.insert(dice.randrange(len(frames) + 1), (number, payload, intra))
                case 1:
                    frames.insert(at, (dice.choice([0, 1, number + 1, 500, 2**16, 2**28 - 2]), payload, intra))
                case 2:
                    frames.insert(at, (number, mutated(payload, dice), intra))
                case 3:
                    frames.insert(at, (number, payload, not intra))
            if not frames or dice.random() < 0.5:
                end = dice.choice([b"", videostream.end(len(frames)), videostream.end(2**28 - 2)])
                return self.seed[: self.body] + b"".join(videostream.record(*frame, quality) for frame in frames) + end

    def read(self, data: bytes) -> None:
        told = []
        for _ in api.decode_video(data, self.model, max_pixels=MAX_PIXELS, report=told.append):
            pass
        api.info(data, self.model, max_pixels=MAX_PIXELS)
        if told:
            raise BitstreamError(told[0].reason)

    def seconds(self, data: bytes) -> float:
        return SECONDS


class ModelFiles:
    """Weights files, by way of a file."""

    def __init__(self, weights_file: Path, folder: Path):
        self.seed, self.path = weights_file.read_bytes(), folder / "input"
        self.size = int.from_bytes(self.seed[:8], "little")
        self.header = json.loads(self.seed[8 : 8 + self.size])

    def damaged(self, dice: random.Random) -> bytes:
        """Mostly in the header, which is most of what there is to understand."""
        end = 8 + self.size if dice.random() < 0.95 else len(self.seed)
        return mutated(self.seed[:end], dice) + self.seed[end:]

    def with_header(self, header: dict) -> bytes:
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + self.seed[8 + self.size :]

    def relabelled(self, dice: random.Random) -> bytes:
        """Other names, types, shapes and places of tensors."""
        return self.with_header(mutated_tree(self.header, dice))

    def reconfigured(self, dice: random.Random) -> bytes:
        """Another config and other metadata around the same tensors."""
        facts = json.loads(self.header["__metadata__"][weights.FACTS])
        changed = {**facts, "config": mutated_tree(facts["config"], dice)}
        if dice.random() < 0.1:
            changed = mutated_tree(facts, dice)
        return self.with_header({**self.header, "__metadata__": {weights.FACTS: json.dumps(changed)}})

    def read(self, data: bytes) -> None:
        self.path.write_bytes(data)
        try:
            weights.read(self.path)
        except ModelFileError as error:
            if "allocate memory" in str(error) or "MemoryError" in str(error):
                raise MemoryError(str(error)) from error  # it should have been refused before
            raise

    def seconds(self, data: bytes) -> float:
        return SECONDS


def targets(folder: Path) -> dict:
    """``{kind: (share, make, target)}``; other kinds of streams may be added here."""
    torch.manual_seed(0)
    model_folder = zoo.save(GLCImage(CONFIG), folder / "model", "fuzz")
    streams, files = Streams(zoo.load(model_folder)), ModelFiles(model_folder / zoo.WEIGHTS, folder)
    video = zoo.load(zoo.save(GLCVideo(VIDEO), folder / "video", "fuzz"))
    videos, varying = Videos(video, quality=1), Videos(video, max_bytes=10**6)
    return {
        "stream, damaged": (970, streams.damaged, streams),
        "stream, forged checksum": (8, streams.forged, streams),
        "video, damaged": (4, videos.damaged, videos),
        "video, forged checks": (2, videos.forged, videos),
        "video of version 2, damaged": (4, varying.damaged, varying),
        "video of version 2, forged checks": (2, varying.forged, varying),
        "model file, damaged": (12, files.damaged, files),
        "model file, other tensors": (2, files.relabelled, files),
        "model file, other config": (2, files.reconfigured, files),
    }


# -- the run --------------------------------------------------------------------------------------------------------


def limit_memory() -> None:
    used = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (1024 * int(used.split()[1]) + MEMORY, resource.RLIM_INFINITY))


@click.command(help=__doc__)
@click.option("--seconds", type=float, default=float("inf"), help="How long to go on.")
@click.option("--inputs", type=int, default=sys.maxsize, help="How many inputs at most.")
@click.option("--start", type=int, default=0, help="Number of the first input.")
@click.option("--seed", type=int, default=0)
@click.option("--kind", "only", multiple=True, help="Of input, as the result names it; repeat for several.")
def main(seconds: float, inputs: int, start: int, seed: int, only: tuple[str, ...]) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    faulthandler.enable()
    faulthandler.register(signal.SIGPROF, chain=True)  # what HANGING sends; then it ends the program
    counts, slowest, faults = collections.Counter(), collections.defaultdict(float), 0
    with tempfile.TemporaryDirectory() as folder:
        kinds = {kind: target for kind, target in targets(Path(folder)).items() if not only or kind in only}
        limit_memory()
        began, number = time.monotonic(), start
        while number < start + inputs and time.monotonic() < began + seconds:
            if number % 1000 == 0:  # where to look for one that ends the program
                print(f"\r{number}", end="", file=sys.stderr, flush=True)
            dice = random.Random(f"{seed}/{number}")
            kind = dice.choices(list(kinds), [share for share, _, _ in kinds.values()])[0]
            _, make, target = kinds[kind]
            data = make(dice)
            signal.setitimer(signal.ITIMER_PROF, HANGING)
            used = time.process_time()
            try:
                target.read(data)
                outcome = "read"
            except (BitstreamError, ModelFileError):
                outcome = "refused"
            except Exception as error:
                outcome = "fault"
                print(f"\ninput {number} ({kind}): {type(error).__name__}: {error}", file=sys.stderr)
            used = time.process_time() - used
            if used > target.seconds(data):
                outcome = "fault"
                print(f"\ninput {number} ({kind}) took {used:.1f} s", file=sys.stderr)
            counts[kind, outcome] += 1
            slowest[kind] = max(slowest[kind], used)
            faults += outcome == "fault"
            number += 1
    signal.setitimer(signal.ITIMER_PROF, 0)
    facts = {
        "seed": seed,
        "start": start,
        "inputs": number - start,
        "counts": {kind: {o: counts[kind, o] for o in ("read", "refused", "fault")} for kind in kinds},
        "slowest_s": {kind: round(value, 3) for kind, value in slowest.items()},
        "peak_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(facts, indent=2))
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
