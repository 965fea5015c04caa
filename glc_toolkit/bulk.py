"""Many pictures: folders, tar shards and fsspec URLs, by one process, several, or Ray workers, with the same result.

A file is the unit of work: a picture, or a tar shard, which becomes a tar shard. The first line of ``manifest.jsonl``
in the target says what the job is. Each other line says what became of a file. A job that is run again does the files
whose line is missing or has an error, or whose output is gone. Sources are not read again to see whether they changed.
"""

import hashlib
import json
import logging
import math
import os
import posixpath
import signal
import sys
import tarfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from io import BytesIO
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple, cast

import fsspec
import torch
from fsspec.implementations.local import LocalFileSystem
from PIL import Image

from glc_toolkit import api, bitstream, io, mark, registry, versions, zoo
from glc_toolkit.evaluation import evaluate
from glc_toolkit.models import GLCImage
from glc_toolkit.types import BitstreamError

MANIFEST = "manifest.jsonl"
TAR = ".tar"
STREAM = ".glc"
MAX_BYTES = 2**28  # to read from a file or member: the largest picture in 16 bits. A tar may claim any size
SAVE_EVERY = 30.0  # seconds before the manifest is written again
RETRIES = 3  # how often a file whose worker died is tried again
BLOCKS = 4096  # shares that Ray Data deals out. When a worker dies, its whole share is done again


@dataclass(frozen=True)
class Job:
    """What a worker has to do."""

    task: Literal["encode", "decode", "eval"]
    source: str  #: folder, file or pattern (``*.tar``), as a path or fsspec URL
    target: str  #: folder, as a path or fsspec URL
    model: str | None = None  #: as :func:`glc_toolkit.zoo.load`; ``None`` decodes by the fingerprint in each file
    quality: float | None = None
    target_bpp: float | None = None
    max_bytes: int | None = None
    effort: int = 0
    metrics: tuple[str, ...] = evaluate.METRICS
    max_pixels: int | None = None
    device: str = "cpu"
    mark: bool = True  #: of decoded pictures, see :mod:`glc_toolkit.mark`


@dataclass
class Report:
    """What became of a job."""

    pictures: int = 0  #: done now
    skipped: int = 0  #: files that were done before
    seconds: float = 0.0
    errors: list[dict] = field(default_factory=list)  #: rows of the manifest
    mean: dict[str, float] | None = None  #: of an evaluation, over all rows of the manifest


class Place(NamedTuple):
    """A folder on this machine or behind a URL."""

    fs: Any  #: fsspec.AbstractFileSystem
    root: str

    def path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    @contextmanager
    def writing(self, name: str) -> Iterator[Any]:
        """A file to write that takes its name once it is whole."""
        path = self.path(name)
        self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        if isinstance(self.fs, LocalFileSystem):
            with io.replacing(path) as partial, open(partial, "wb") as file:
                yield file
        else:
            with self.fs.transaction, self.fs.open(path, "wb") as file:
                yield file


def run(
    job: Job,
    workers: int | None = None,
    address: str | None = None,
    progress: Callable[[int, int, int], object] = lambda done, files, pictures: None,
) -> Report:
    """Do a job, or go on with it. Errors of single files are in the report, and in the manifest.

    Args:
        job: what to do.
        workers: processes on this machine, or Ray actors with ``address``, each with one core (in Ray and GPU, if
            ``job.device`` is one) and the model; ``None`` is this process alone, on one core too, or with ``address``
            as many as the cluster has room for.
        address: a Ray cluster, as ``ray.init`` takes it.
        progress: called after each file with files done, all files to do, and pictures done.

    Raises ``ValueError`` if there is nothing to do, the target holds another job, outputs would replace sources, or
    workers cannot be started; then nothing is written.
    """
    started = time.perf_counter()
    job = absolute(job)
    names = find(job)
    if job.model is not None and not isinstance(zoo.load(job.model), GLCImage):
        raise ValueError(f"{job.model} codes videos, not pictures")
    manifest = Manifest(job)
    todo = [name for name in names if not manifest.has(name)]
    report = Report(skipped=len(names) - len(todo))
    left, threads = dict.fromkeys(todo), torch.get_num_threads()
    try:
        with started_workers(job, todo, workers, address) as results:
            if todo:
                manifest.save()  # says whose folder this is, or before the work that it cannot be written
            for result in results:
                rows = json.loads(result["rows"])
                manifest.add(name := rows[0]["source"], rows)
                del left[name]
                report.pictures += sum("bytes" in row for row in rows)
                report.errors += [row for row in rows if "error" in row]
                progress(len(todo) - len(left), len(todo), report.pictures)
            for name in left:
                row = {"source": name, "error": f"its worker died, and {RETRIES} times again when it was retried"}
                manifest.add(name, [row])
                report.errors.append(row)
    finally:
        torch.set_num_threads(threads)
        if manifest.lines:
            manifest.save()
    if job.task == "eval":
        report.mean = mean(manifest)
    report.errors.sort(key=lambda row: (row["source"], row.get("member", "")))
    report.seconds = time.perf_counter() - started
    return report


def absolute(job: Job) -> Job:
    """The same job with absolute paths: a worker may run in another folder."""

    def path(text: str) -> str:
        return text if "://" in text else os.path.abspath(text)

    model = job.model
    if model is not None and not versions.find(model):
        model = path(model)
    return replace(job, source=path(job.source), target=path(job.target), model=model)


def items(names: list[str]) -> list[dict[str, str]]:
    """Names of files in JSON, for Ray Data: a name need not be UTF-8."""
    return [{"source": json.dumps(name)} for name in names]


def started_workers(
    job: Job, names: list[str], workers: int | None, address: str | None
) -> AbstractContextManager[Iterable[dict]]:
    """The results of a :class:`Worker` for each name, in the order in which they are ready. A name whose worker died
    again and again has no result."""
    if not names:
        return nullcontext(())
    if address is not None:
        return cluster(job, names, workers, address)
    if workers is None:
        return nullcontext(map(Worker(job), items(names)))
    return processes(job, names, min(workers, len(names)), Worker)


@contextmanager
def processes(job: Job, names: list[str], workers: int, worker: type["Worker"]) -> Iterator[Iterable[dict]]:
    """Processes on this machine. Each does one file after the other."""
    context = get_context("spawn")  # a fork of a process that has used PyTorch's threads may hang
    waiting, tries = deque(items(names)), Counter()
    busy: dict[Any, tuple[Any, dict | None]] = {}  # by pipe: the process at its end, and what it was given

    def start() -> None:
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(worker, job, theirs), daemon=True)
        process.start()
        theirs.close()
        busy[ours] = (process, None)

    def answers() -> Iterator[dict]:
        while busy:
            for pipe in cast(list[Any], wait(list(busy))):
                process, item = busy.pop(pipe)
                try:
                    answer = pipe.recv()
                except (EOFError, ConnectionError):  # it died
                    pipe.close()
                    process.join()
                    if item is None:
                        raise ValueError(f"a worker died as it started, with exit code {process.exitcode}") from None
                    tries[item["source"]] += 1
                    if tries[item["source"]] <= RETRIES:
                        waiting.append(item)
                    if waiting:
                        start()
                    continue
                if isinstance(answer, Exception):
                    raise answer
                if waiting:
                    busy[pipe] = (process, waiting.popleft())
                    with suppress(ConnectionError):  # of one that has just died, which the next round notices
                        pipe.send(busy[pipe][1])
                else:
                    pipe.close()
                yield answer

    try:
        for _ in range(workers):
            start()
        results = answers()
        next(results)  # the first is ready
        yield (answer for answer in results if answer)
    finally:
        for process, _ in busy.values():
            process.terminate()


def serve(worker: type["Worker"], job: Job, pipe: Connection) -> None:
    """What a process does. It sends ``{}`` when it has begun, or says why it cannot begin; then it answers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the process that started this one, too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # or partial files would stay
    try:
        does = worker(job)
    except Exception as error:
        pipe.send(error)
        return
    pipe.send({})
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        pipe.send(does(item))


@contextmanager
def cluster(job: Job, names: list[str], workers: int | None, address: str) -> Iterator[Iterable[dict]]:
    """Actors of Ray Data."""
    try:
        import ray.data  # pyright: ignore[reportMissingImports]  an extra
    except ImportError as error:
        raise ValueError(f"--ray needs ray ({error}): pip install 'glc-toolkit[ray]'") from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    own = not ray.is_initialized()
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if own:
        ray.init(address=address, **quiet)
    try:
        resource = "CPU" if job.device == "cpu" else "GPU"
        room = int(ray.cluster_resources().get(resource, 0))
        if room < (workers or 1):
            raise ValueError(f"the Ray cluster has {room} {resource}s, too few for {workers or 1} workers")
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1
        data = ray.data.from_items(items(names), override_num_blocks=min(len(names), BLOCKS))
        results = data.map(
            Worker,  # pyright: ignore[reportArgumentType]
            fn_constructor_args=(job,),
            # One file at a time: what waits behind one that kills its worker would fail with it.
            compute=ray.data.ActorPoolStrategy(size=min(workers or room, len(names)), max_tasks_in_flight_per_actor=1),
            num_cpus=1,
            num_gpus=None if resource == "CPU" else 1,
            max_task_retries=RETRIES,
        )
        yield results.iter_rows()
    finally:
        if own:
            ray.shutdown()


class Worker:
    """Holds the model; a call does one file and gives its rows of the manifest, in JSON."""

    def __init__(self, job: Job):
        torch.set_num_threads(1)  # more would round otherwise, and now and then give other bytes
        self.job = job
        self.source, self.target = places(job)
        self.model: Any = None if job.model is None else zoo.load(job.model, job.device)
        self.known = cache(lambda fingerprint: zoo.by_fingerprint(fingerprint).to(job.device))
        self.suffixes = suffixes(job.task)
        self.work = {"encode": self.encode, "decode": self.decode, "eval": self.measure}[job.task]
        if job.task == "eval":
            self.distances = {name: registry.build("metric", {"name": name}) for name in job.metrics}

    def __call__(self, item: dict[str, str]) -> dict[str, str]:
        name = json.loads(item["source"])
        try:
            rows = self.shard(name) if is_shard(name) else [self.file(name)]
        except Exception as error:  # one bad file among a million stops nothing
            rows = [{"source": name, "error": reason(error)}]
        return {"rows": json.dumps(rows)}

    def file(self, name: str) -> dict:
        with self.source.fs.open(self.source.path(name), "rb") as source:
            data = source.read(MAX_BYTES + 1)
        check_size(len(data))
        output, facts = self.work(data)
        with self.writing(renamed(self.job.task, name)) as file:
            file.write(output)
        return {"source": name, **self.named(name), **facts}

    def shard(self, name: str) -> list[dict]:
        """Do the pictures of a shard. All else is copied; a link to a picture becomes one to its output."""
        rows = []
        done: dict[str, dict] = {}  # by name: the rows of what is in the output
        with (
            self.source.fs.open(self.source.path(name), "rb") as file,
            tarfile.open(fileobj=file, mode="r:") as old,
            self.writing(name) as output,
            tarfile.open(fileobj=output, mode="w|") as new,
        ):
            for member in old:
                row = {"source": name, "member": member.name}
                content = old.extractfile(member) if member.isreg() else None
                wanted = PurePosixPath(member.name).suffix.lower() in self.suffixes and not io.hidden(member.name)
                info = tarfile.TarInfo(renamed(self.job.task, member.name))
                info.mtime, info.mode = member.mtime, member.mode
                try:
                    check_member(member)
                    if member.islnk() and member.linkname not in done:
                        raise ValueError(f"it is a link to {member.linkname!r}, which is not in the output")
                    if content and wanted:
                        check_size(member.size)
                        data, facts = self.work(content.read())
                        row |= self.named(member.name) | facts
                        member, content, info.size = info, BytesIO(data), len(data)
                    elif member.islnk() and "bytes" in (target := done[member.linkname]):
                        info.name = info.name if wanted else member.name
                        info.type, info.linkname = tarfile.LNKTYPE, target.get("output", member.linkname)
                        row |= ({} if self.job.task == "eval" else {"output": info.name}) | {
                            key: value for key, value in target.items() if key not in ("source", "member", "output")
                        }
                        member = info
                    elif member.issparse():  # a map of its holes would be lost
                        info.name, info.size = member.name, member.size
                        member = info
                except Exception as error:
                    rows.append(row | {"error": reason(error)})
                    continue
                done[row["member"]] = row
                rows += [row] if "bytes" in row else []
                new.addfile(member, content)
            file.seek(old.offset)  # tarfile takes a damaged header for the end
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"the shard is damaged or cut short at byte {old.offset}")
        return rows or [{"source": name}]

    def writing(self, name: str) -> AbstractContextManager[Any]:
        return open(os.devnull, "wb") if self.job.task == "eval" else self.target.writing(name)

    def named(self, name: str) -> dict[str, str]:
        return {} if self.job.task == "eval" else {"output": renamed(self.job.task, name)}

    def encode(self, data: bytes) -> tuple[bytes, dict]:
        output = self.stream(opened(data))
        return output, facts_of(output)

    def stream(self, picture: Image.Image) -> bytes:
        job = self.job
        return api.encode(
            picture, self.model, job.quality, job.target_bpp, job.max_bytes, job.effort, max_pixels=job.max_pixels
        )

    def decode(self, data: bytes) -> tuple[bytes, dict]:
        if bitstream.is_video(data):
            raise BitstreamError("it is a video, which glc decode reads")
        model = self.model or self.known(bitstream.parse(data).fingerprint)
        output, text = BytesIO(), mark.sentence(model.config.get("name", "unnamed")) if self.job.mark else ""
        picture = api.decode_picture(data, model, max_pixels=self.job.max_pixels)
        picture.save(output, "png", **mark.options(".png", text))
        return output.getvalue(), facts_of(output.getvalue())

    def measure(self, data: bytes) -> tuple[bytes, dict]:
        x = io.to_tensor(opened(data), self.job.max_pixels)
        stream = self.stream(io.to_pillow(x))
        decoded = api.decode_picture(stream, self.model, max_pixels=self.job.max_pixels)
        values = evaluate.measure(io.to_tensor(decoded), x, self.distances)
        row = {"bytes": len(stream), "bpp": 8 * len(stream) / (x.shape[-1] * x.shape[-2]), **values}
        return stream, {key: value if math.isfinite(value) else None for key, value in row.items()}


class Manifest:
    """``manifest.jsonl``: the lines about each file. They are kept as text, so that a million fit into memory."""

    def __init__(self, job: Job):
        source, self.place = places(job)
        model = job.model and (zoo.info(job.model)["fingerprint"] if job.task == "decode" else zoo.digest(job.model))
        facts = {"task": job.task, "source": source.fs.unstrip_protocol(source.root), "model": model}
        facts |= {} if job.task == "decode" else {"quality": job.quality}
        facts |= {key: value for key in ("target_bpp", "max_bytes", "effort") if (value := getattr(job, key))}
        facts |= {} if job.mark else {"mark": False}
        facts |= {"metrics": list(job.metrics)} if job.task == "eval" else {}
        self.head = {"job": facts}
        self.task = job.task
        self.lines: dict[str, str] = {}
        self.saved, self.pause = time.perf_counter(), SAVE_EVERY
        path = self.place.path(MANIFEST)
        self.outputs: set[str] = set()
        if self.place.fs.exists(path):
            self.outputs = set(self.place.fs.find(self.place.root))
            self.read(self.place.fs.cat_file(path), path)

    def read(self, data: bytes, path: str) -> None:
        try:
            head, *rows = data.decode().splitlines()
            other = json.loads(head)
            for line in rows:
                row = json.loads(line)
                texts = [row["source"], *(row[key] for key in ("member", "output", "error") if key in row)]
                if not all(isinstance(text, str) for text in texts):
                    raise ValueError(f"{line[:80]} is no row of it")
                self.lines[row["source"]] = self.lines.get(row["source"], "") + line + "\n"
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{path} is damaged: {error}; remove it to begin anew") from error
        if other != self.head:
            raise ValueError(f"{path} belongs to another job, {head}; give another folder to write to")

    def has(self, name: str) -> bool:
        """Whether a file was done without an error, and its output is there."""
        lines = self.lines.get(name)
        if lines is None or any("error" in json.loads(line) for line in lines.splitlines()):
            return False
        return self.task == "eval" or self.place.path(renamed(self.task, name)) in self.outputs

    def add(self, name: str, rows: list[dict]) -> None:
        self.lines[name] = "".join(json.dumps(row) + "\n" for row in rows)
        if time.perf_counter() - self.saved > self.pause:
            self.save()

    def save(self) -> None:
        """Write the whole manifest, as object stores need it, but so seldom that it takes a twentieth of the time."""
        started = time.perf_counter()
        with self.place.writing(MANIFEST) as file:
            file.write(f"{json.dumps(self.head)}\n".encode())
            for name in sorted(self.lines):
                file.write(self.lines[name].encode())
        self.saved = time.perf_counter()
        self.pause = max(SAVE_EVERY, 20 * (self.saved - started))

    def rows(self) -> Iterator[dict]:
        for lines in self.lines.values():
            yield from map(json.loads, lines.splitlines())


def mean(manifest: Manifest) -> dict[str, float] | None:
    rows = [row for row in manifest.rows() if "bpp" in row]
    numbers = [{k: math.nan if v is None else v for k, v in row.items() if not isinstance(v, str)} for row in rows]
    return evaluate.summary(numbers) if numbers else None


def places(job: Job) -> tuple[Place, Place]:
    """The folder that names of sources are relative to, and the target."""
    try:
        fs, root = fsspec.url_to_fs(job.source)
        if not fs.isdir(root):
            fixed = root.split("*")[0].split("?")[0].split("[")[0] if not fs.exists(root) else root
            root = fixed.rpartition("/")[0]
        return Place(fs, root), Place(*fsspec.url_to_fs(job.target))
    except (ImportError, ValueError) as error:  # of a protocol
        raise ValueError(f"{job.source} or {job.target} is no place that fsspec can reach here: {error}") from error


def find(job: Job) -> list[str]:
    """Names of the files to do, sorted, relative to their folder. Files in a target inside it are left out."""
    source, target = places(job)
    fs, path = fsspec.url_to_fs(job.source)
    try:
        if fs.isdir(path):
            paths = fs.find(path)
        elif fs.exists(path):
            paths = [path]
        else:
            paths = [name for name, facts in fs.glob(path, detail=True).items() if facts["type"] == "file"]
    except OSError:
        raise
    except Exception as error:  # each store has its own
        raise ValueError(f"{job.source} cannot be listed: {reason(error)}") from error
    if target.root != source.root and target.path("").startswith(source.path("")):
        paths = [path for path in paths if not path.startswith(target.path(""))]
    names = [path[len(source.path("")) :] for path in sorted(paths)]
    kinds = suffixes(job.task) | {TAR}
    names = [name for name in names if PurePosixPath(name).suffix.lower() in kinds and not io.hidden(name)]
    if not names:
        raise ValueError(f"no {'GLC files' if job.task == 'decode' else 'pictures'} or tar shards at {job.source}")
    sources = {source.path(name) for name in names}
    if job.task != "eval" and (both := {target.path(renamed(job.task, name)) for name in names} & sources):
        raise ValueError(f"{min(both)} is a file to read; give another folder to write to")
    return names


def is_shard(name: str) -> bool:
    return name.lower().endswith(TAR)


def suffixes(task: str) -> set[str]:
    return {STREAM} if task == "decode" else io.suffixes(Image.OPEN)


def renamed(task: str, name: str) -> str:
    """The name of an output. It keeps the suffix of its source: a.jpg and a.png may lie in one folder."""
    if is_shard(name):
        return name
    return name.removesuffix(STREAM) + ".png" if task == "decode" else name + STREAM


def opened(data: bytes) -> Image.Image:
    try:
        return Image.open(BytesIO(data))
    except Exception as error:  # as in io.to_tensor; Pillow's message would name our buffer
        raise io.PictureError("it cannot be read as a picture") from error


def check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise io.PictureError(f"it has, or claims, more than {MAX_BYTES} bytes")


def check_member(member: tarfile.TarInfo) -> None:
    """Raise ``ValueError`` for a member of a tar that would be written elsewhere, or would become far larger."""
    places = [member.name]
    if member.issym():
        places.append(posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname)))
    if any(place.startswith("/") or ".." in PurePosixPath(place).parts for place in places):
        raise ValueError("its name, or what it links to, is outside the shard")
    if member.issparse():
        check_size(member.size)


def facts_of(output: bytes) -> dict[str, Any]:
    return {"bytes": len(output), "sha256": hashlib.sha256(output).hexdigest()}


def reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    expected = isinstance(error, (ValueError, OSError)) or type(error).__module__.startswith("glc_toolkit.")
    return text if text and expected else f"{type(error).__name__}: {text}"
