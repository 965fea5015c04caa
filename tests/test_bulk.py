import contextlib
import copy
import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
import time
from io import BytesIO
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from glc_toolkit import api, bulk, io, registry, zoo
from glc_toolkit.cli import cli
from glc_toolkit.evaluation import evaluate

PICTURES = ("a.jpg", "a.png", "sub/a.png", "sub/deeper/b.webp")


@pytest.fixture
def source(tmp_path) -> Path:
    """Four pictures, a broken one, another file, and a shard of such."""
    folder, random = tmp_path / "source", np.random.default_rng(0)
    for name in PICTURES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (40, 56, 3), dtype=np.uint8)).save(folder / name)
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture either")
    (folder / "label.json").write_text("{}")
    with tarfile.open(folder / "sub" / "shard.tar", "w") as tar:
        for name in ("a.jpg", "broken.png", "label.json", "sub/deeper/b.webp"):
            tar.add(folder / name, f"in/{Path(name).name}")
    (folder / "label.json").unlink()
    return folder


@pytest.fixture
def job(source, tiny_folder, tmp_path):
    def make(target="out", **changes) -> bulk.Job:
        facts = {"task": "encode", "source": str(source), "model": str(tiny_folder)}
        return bulk.Job(target=target if "://" in target else f"{tmp_path}/{target}", **{**facts, **changes})

    return make


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def members(shard: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=BytesIO(shard)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / bulk.MANIFEST).read_text().splitlines()[1:]]


BROKEN = [
    {"source": "broken.png", "error": "it cannot be read as a picture"},
    {"source": "sub/shard.tar", "member": "in/broken.png", "error": "it cannot be read as a picture"},
]


def test_a_folder_is_what_its_pictures_are_one_by_one(job, source, tiny_model, tmp_path):
    report = bulk.run(job())
    assert report.pictures == 6 and report.skipped == 0 and report.errors == BROKEN
    made = files(tmp_path / "out")
    shard = members(made.pop("sub/shard.tar"))
    lines = rows(tmp_path / "out")
    del made[bulk.MANIFEST]
    expected = {name: api.encode(source / name, tiny_model) for name in PICTURES}
    assert made == {f"{name}.glc": data for name, data in expected.items()}
    assert list(shard) == ["in/a.jpg.glc", "in/label.json", "in/b.webp.glc"]
    assert shard["in/a.jpg.glc"] == expected["a.jpg"] and shard["in/label.json"] == b"{}"
    assert [(row["source"], row.get("member")) for row in lines] == [
        *((name, None) for name in (*PICTURES[:2], "broken.png", PICTURES[2], PICTURES[3])),
        *(("sub/shard.tar", f"in/{name}") for name in ("a.jpg", "broken.png", "b.webp")),
    ]
    assert all(len(row["sha256"]) == 64 and row["bytes"] > 0 for row in lines if "error" not in row)


def test_decoding_takes_it_back(job, source, tiny_model, tmp_path):
    bulk.run(job())
    back = job("back", task="decode", source=str(tmp_path / "out"))
    assert bulk.run(back).errors == []
    made = files(tmp_path / "back")
    assert set(made) == {bulk.MANIFEST, "sub/shard.tar", *(f"{name}.png" for name in PICTURES)}
    expected = api.decode(api.encode(source / "a.jpg", tiny_model), tiny_model)
    assert np.array_equal(Image.open(BytesIO(made["a.jpg.png"])), expected)
    assert members(made["sub/shard.tar"])["in/a.jpg.png"] == made["a.jpg.png"]


def test_streams_of_several_models_are_decoded_by_their_fingerprints(job, tmp_path, tiny_folder, noise, monkeypatch):
    monkeypatch.setenv("GLC_ZOO", str(tiny_folder.parent))
    (tmp_path / "streams").mkdir()
    for name in ("tiny", "glc-image-0.03"):
        (tmp_path / "streams" / f"{name}.glc").write_bytes(api.encode(noise, name))
    report = bulk.run(job(task="decode", source=str(tmp_path / "streams"), model=None))
    assert report.pictures == 2 and set(files(tmp_path / "out")) == {"tiny.png", "glc-image-0.03.png", bulk.MANIFEST}


def test_evaluation_gives_the_numbers_of_evaluate(job, source, tiny_model, tmp_path):
    report = bulk.run(job(task="eval", metrics=("psnr", "ms-ssim")))
    assert report.errors == BROKEN and set(files(tmp_path / "out")) == {bulk.MANIFEST}
    distances = {name: registry.build("metric", {"name": name}) for name in ("psnr", "ms-ssim")}
    paths = [source / PICTURES[i] for i in (0, 1, 2, 3, 0, 3)]
    expected = []
    for path in paths:
        x = io.to_tensor(path)
        row, x_hat = evaluate.coded(x, lambda p: api.encode(p, tiny_model), lambda d: api.decode(d, tiny_model))
        expected.append(row | evaluate.measure(x_hat, x, distances))
    measured = [row for row in rows(tmp_path / "out") if "error" not in row]
    for row, one in zip(measured, expected, strict=True):
        assert all(row[key] == one[key] for key in ("bytes", "bpp", "psnr")) and row["ms-ssim"] is None
    assert report.mean["psnr"] == pytest.approx(np.mean([row["psnr"] for row in expected]))


def test_a_second_run_does_what_is_left(job, source, tmp_path):
    bulk.run(job())
    before = files(tmp_path / "out")
    (tmp_path / "out" / "a.png.glc").unlink()
    (source / "broken.png").write_bytes((source / "a.png").read_bytes())
    report = bulk.run(job())  # the shard again, too: it lacks a picture
    assert report.skipped == 3 and report.pictures == 4 and report.errors == BROKEN[1:]
    after = files(tmp_path / "out")
    assert after.pop("broken.png.glc") == after["a.png.glc"]
    assert {**after, bulk.MANIFEST: b""} == {**before, bulk.MANIFEST: b""}
    (source / "sub" / "shard.tar").unlink()
    assert bulk.run(job()) == bulk.Report(skipped=5, seconds=pytest.approx(0, abs=60))


def test_a_run_that_is_stopped_keeps_what_it_did(job, tmp_path):
    def stop(done, files, pictures):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bulk.run(job(), progress=stop)
    assert [row["source"] for row in rows(tmp_path / "out")] == ["a.jpg", "a.png"]
    assert bulk.run(job()).skipped == 2


def test_a_target_of_another_job_is_refused(job, source, tmp_path):
    bulk.run(job())
    before = files(tmp_path / "out")
    for changed in (job(quality=1.0), job(task="eval"), job(source=str(source / "sub")), job(model="glc-image-0.03")):
        with pytest.raises(ValueError, match="belongs to another job"):
            bulk.run(changed)
    assert files(tmp_path / "out") == before
    for text in ("nonsense\n", ""):
        (tmp_path / "out" / bulk.MANIFEST).write_text(text)
        with pytest.raises(ValueError, match=r"is damaged: .*; remove it to begin anew"):
            bulk.run(job())


@pytest.mark.parametrize(
    "text",
    [
        b'{"job": null}\n{"source": null}\n',
        b'{"job": null}\n{"source": "a.png", "member": null}\n',
        b'{"job": null}\nnull\n',
        b"[" * 100_000,
        '{"job": "\u00e9"}'.encode("utf-16"),
        b"",
    ],
)
def test_a_manifest_that_is_none(job, tmp_path, text):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / bulk.MANIFEST).write_bytes(text)
    with pytest.raises(ValueError, match=r"manifest\.jsonl is damaged: .*; remove it to begin anew"):
        bulk.run(job())
    assert (tmp_path / "out" / bulk.MANIFEST).read_bytes() == text


def test_an_encoder_that_learned_is_another_job(job, tmp_path, tiny_model):
    """Its fingerprint is the old one, as decoders need no other."""
    bulk.run(job())
    model = copy.deepcopy(tiny_model)
    with torch.no_grad():
        next(model.backbone.encoder.parameters()).add_(0.1)
    better = zoo.save(model, tmp_path / "better", "tiny")
    assert zoo.load(better).fingerprint() == tiny_model.fingerprint()
    with pytest.raises(ValueError, match="belongs to another job"):
        bulk.run(job(model=str(better)))


def test_videos_and_hidden_files(job, tmp_path, noise, tiny_video_folder):
    streams = tmp_path / "streams"
    streams.mkdir()
    (streams / ".123.partial.glc").write_bytes(b"left by a writer that was killed")
    (streams / "clip.glc").write_bytes(b"".join(api.encode_video([noise], zoo.load(tiny_video_folder))))
    report = bulk.run(job(task="decode", source=str(streams)))
    assert report.errors == [{"source": "clip.glc", "error": "it is a video, which glc decode reads"}]
    with pytest.raises(ValueError, match="codes videos, not pictures"):
        bulk.run(job(model=str(tiny_video_folder)))


def test_a_shard_is_whole_or_not_there(job, source, tmp_path):
    shard = source / "sub" / "shard.tar"
    whole = shard.read_bytes()
    damaged = bytearray(whole)
    damaged[whole.index(b"in/label.json")] ^= 1  # a header whose checksum fails
    for data in (bytes(damaged), whole[:3000], whole[: whole.index(b"in/label.json")], b"no tar at all" * 99):
        shard.write_bytes(data)
        report = bulk.run(job())
        assert [error["source"] for error in report.errors] == ["broken.png", "sub/shard.tar"]
        assert "member" not in report.errors[1] and not list((tmp_path / "out").rglob("*.tar"))
    assert not list((tmp_path / "out").rglob(".*"))


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, BytesIO(content))
    return path


def member(name: str, **facts) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in facts.items():
        setattr(info, key, value)
    return info


def test_links_in_a_shard_go_to_what_became_of_the_picture(job, source, tiny_model, tmp_path):
    data = (source / "a.png").read_bytes()
    link = {"type": tarfile.LNKTYPE}
    shard = tar_of(
        tmp_path / "links.tar",
        (member("in/a.png"), data),
        (member("in/b.png", linkname="in/a.png", **link), b""),
        (member("plain", linkname="in/a.png", **link), b""),
        (member("c.png", linkname="nowhere.png", **link), b""),
        (member("label.json"), b"{}"),
        (member("again.json", linkname="label.json", **link), b""),
    )
    report = bulk.run(job(source=str(shard)))
    stream = api.encode(source / "a.png", tiny_model)
    expected = {"in/a.png.glc": stream, "in/b.png.glc": stream, "plain": stream}
    out = tmp_path / "out" / "links.tar"
    assert members(out.read_bytes()) == {**expected, "label.json": b"{}", "again.json": b"{}"}
    (error,) = report.errors
    assert error["member"] == "c.png" and "a link to 'nowhere.png', which is not in the output" in error["error"]
    bulk.run(job("back", source=str(out), task="decode"))
    assert {"in/a.png.png", "in/b.png.png", "plain"} <= set(members((tmp_path / "back" / "links.tar").read_bytes()))


def test_a_shard_reaches_nothing_outside_it(job, source, tmp_path):
    data = (source / "a.png").read_bytes()
    names = ["../up.png", "in/../../up.json", "/root.png", "in/../a.png"]
    bad = [(member(name), data) for name in names]
    bad += [(member("in/link", type=tarfile.SYMTYPE, linkname="../../etc"), b"")]
    good = [(member("in/a.png"), data), (member("in/inner", type=tarfile.SYMTYPE, linkname="../in/a.png.glc"), b"")]
    report = bulk.run(job(source=str(tar_of(tmp_path / "bad.tar", *bad, *good))))
    assert [row["member"] for row in report.errors] == sorted([*names, "in/link"])
    assert all("outside the shard" in row["error"] for row in report.errors)
    with tarfile.open(tmp_path / "out" / "bad.tar") as tar:
        assert tar.getnames() == ["in/a.png.glc", "in/inner"]


def test_a_member_that_claims_gigabytes_is_not_read(job, source, tmp_path):
    """10 kB of a sparse tar claim 3 GB."""
    for name in ("huge.png", "huge.bin"):
        with (source / name).open("wb") as file:
            file.truncate(3 * 2**30)
    shard = tmp_path / "sparse.tar"
    subprocess.run(["tar", "--sparse", "-cf", shard, "huge.png", "huge.bin", "a.png"], cwd=source, check=True)
    assert shard.stat().st_size < 10**5
    (source / "huge.bin").unlink()
    for target, place in (("out", shard), ("other", source / "huge.png")):
        with memory_limit(2**30):
            report = bulk.run(job(target, source=str(place)))
        assert report.errors and all(f"more than {2**28} bytes" in row["error"] for row in report.errors)
    assert list(members((tmp_path / "out" / "sparse.tar").read_bytes())) == ["a.png.glc"]


@contextlib.contextmanager
def memory_limit(more: int):
    """Of so many bytes beyond what this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


GLC = "from glc_toolkit.cli import main; main()"


@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_a_job_that_is_killed_leaves_no_partial_file_and_goes_on(workers, source, tiny_folder, tmp_path):
    """By SIGTERM, in the middle; the outcome is that of a job that was left alone."""
    noise = np.random.default_rng(1)
    for i in range(12):
        Image.fromarray(noise.integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(source / f"{i}.png")
    with tarfile.open(source / "0shard.tar", "w") as tar:
        for i in range(12):
            tar.add(source / f"{i}.png", f"{i}.png")
    start = [sys.executable, "-W", "ignore", "-c", GLC, "bulk", source]
    end, out = ["-m", tiny_folder, *workers], tmp_path / "killed"
    job = subprocess.Popen([*start, out, *end], stderr=subprocess.PIPE)
    while not (partial := list(out.glob(".*.partial.tar"))):
        assert job.poll() is None, job.stderr.read()
        time.sleep(0.01)
    assert len(partial) == 1
    job.terminate()
    assert job.wait(60) == 128 + signal.SIGTERM
    job.stderr.close()
    assert not list(out.rglob("*.partial*"))
    subprocess.run([*start, out, *end], stderr=subprocess.PIPE)
    bulk.run(bulk.Job("encode", str(source), str(tmp_path / "alone"), str(tiny_folder)))
    assert files(out) == files(tmp_path / "alone")


def test_sources_are_never_written_over(job, source):
    before = files(source)
    with pytest.raises(ValueError, match=r"shard\.tar is a file to read"):
        bulk.run(job(target="source"))
    assert files(source) == before
    (source / "sub" / "shard.tar").unlink()
    beside = job(target="source")
    assert bulk.run(beside).pictures == 4
    assert bulk.run(beside).skipped == 4
    for path in source.rglob("*.glc"):
        path.unlink()
    (source / bulk.MANIFEST).unlink()
    inside = job(target="source/made")
    assert bulk.run(inside).pictures == 4
    assert bulk.run(inside).skipped == 4  # its outputs are not its sources


def test_patterns_and_single_files(job, source):
    assert bulk.find(job(source=f"{source}/sub/*.tar")) == ["shard.tar"]
    assert bulk.find(job(source=f"{source}/*.png")) == ["a.png", "broken.png"]
    assert bulk.find(job(source=f"{source}/sub/a.png")) == ["a.png"]
    for nothing in (f"{source}/nowhere", f"{source}/*.gif", f"{source}/notes.txt"):
        with pytest.raises(ValueError, match="no pictures or tar shards at"):
            bulk.find(job(source=nothing))
    with pytest.raises(ValueError, match="no GLC files or tar shards at"):
        bulk.find(job(source=f"{source}/*.png", task="decode"))
    with pytest.raises(ValueError, match="no place that fsspec can reach here: Protocol not known"):
        bulk.find(job(source="nosuchprotocol://x"))


def test_urls(job, source, tmp_path):
    store = fsspec.filesystem("memory")
    store.put(f"{source}/", "memory://bulk-source", recursive=True)
    bulk.run(job())
    assert bulk.run(job(source="memory://bulk-source", target="memory://bulk-out")).errors == BROKEN
    for name, data in files(tmp_path / "out").items():
        if name != bulk.MANIFEST:
            assert store.cat_file(f"/bulk-out/{name}") == data
    assert bulk.run(job(source="memory://bulk-source", target="memory://bulk-out")).skipped == 4


def glc(*arguments):
    return CliRunner().invoke(cli, ["bulk", *map(str, arguments)])


def test_the_command(source, tiny_folder, tmp_path):
    result = glc(source, tmp_path / "out", "-m", tiny_folder)
    assert result.exit_code == 1 and "6 pictures in " in result.output
    assert "Error: 2 errors, all other files are done:\nbroken.png: it cannot be" in result.output
    assert "sub/shard.tar/in/broken.png: it cannot be" in result.output
    result = glc(tmp_path / "out", tmp_path / "back", "--decode", "-m", tiny_folder, "--json")
    assert result.exit_code == 0 and json.loads(result.output)["pictures"] == 6
    result = glc(f"{source}/a.*", tmp_path / "eval", "--eval", "-m", tiny_folder, "--metric", "psnr")
    assert result.exit_code == 0 and "mean psnr: " in result.output


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["--decode", "-q", "1"], 2, "are for encoding, not for --decode"),
        (["--metric", "psnr"], 2, "--metric needs --eval"),
        (["--eval", "--metric", "beauty"], 2, "no metric beauty"),
        (["-q", "99"], 2, "quality has to be between"),
        (["-m", "nowhere"], 1, "no model 'nowhere'"),
        (["--workers", "0"], 2, "x>=1"),
    ],
)
def test_mistakes(arguments, code, message, source, tmp_path, model):
    result = glc(source, tmp_path / "out", *arguments)
    assert result.exit_code == code and message in result.output and not (tmp_path / "out").exists()


class Mortal(bulk.Worker):
    """It dies of one picture always, and of another the first time."""

    def __call__(self, item):
        once = Path(os.environ["GLC_TEST_DIED"])
        first = json.loads(item["source"]) == "sub/a.png" and not once.exists()
        once.touch() if first else None
        if first or json.loads(item["source"]) == "deadly.png":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(item)


class Stillborn(bulk.Worker):
    def __init__(self, job):
        raise RuntimeError("no memory for the model")


def test_workers_that_cannot_start_leave_nothing_behind(job, tmp_path, monkeypatch):
    monkeypatch.setattr(bulk, "Worker", Stillborn)
    for workers in (None, 1):
        with pytest.raises(RuntimeError, match="no memory for the model"):
            bulk.run(job(), workers=workers)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match="--ray needs ray"):
        bulk.run(job(), address="auto")
    assert not (tmp_path / "out").exists()


def test_budgets_and_effort(job, source, tiny_model, tmp_path):
    one = {"source": str(source / "a.png")}
    bulk.run(job("bytes", max_bytes=250, **one))
    assert (tmp_path / "bytes" / "a.png.glc").read_bytes() == api.encode(source / "a.png", tiny_model, max_bytes=250)
    bulk.run(job("bpp", target_bpp=0.9, effort=1, **one))
    made = (tmp_path / "bpp" / "a.png.glc").read_bytes()
    assert made == api.encode(source / "a.png", tiny_model, target_bpp=0.9, effort=1)
    with pytest.raises(ValueError, match="belongs to another job"):
        bulk.run(job("bpp", target_bpp=0.9, **one))
    report = bulk.run(job("small", max_bytes=12, **one))
    assert "the lowest quality already takes" in report.errors[0]["error"]


@pytest.mark.parametrize("address", [None, pytest.param("local", marks=pytest.mark.slow)])
def test_two_workers_of_which_some_die(address, job, source, tmp_path, monkeypatch):
    """The same bytes as one process; a file whose worker dies is retried, and reported if that never ends."""
    if address:
        pytest.importorskip("ray.data", reason="ray is not installed: pip install 'glc-toolkit[ray]'")
    (source / "deadly.png").write_bytes((source / "a.png").read_bytes())
    once = tmp_path / "died"
    monkeypatch.setenv("GLC_TEST_DIED", str(once))
    monkeypatch.setattr(bulk, "RETRIES", 1)
    with monkeypatch.context() as patch:
        patch.setattr(bulk, "Worker", Mortal)
        seen = []
        report = bulk.run(job("two"), 2, address, progress=lambda *numbers: seen.append(numbers))
    assert once.exists() and report.pictures == 6 and seen[-1] == (6, 7, 6)
    assert [error["source"] for error in report.errors] == ["broken.png", "deadly.png", "sub/shard.tar"]
    assert "its worker died" in report.errors[1]["error"]

    (source / "deadly.png").unlink()
    bulk.run(job("one"))
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    lines = [line for line in two[bulk.MANIFEST].splitlines() if b"deadly.png" not in line]
    assert lines == one[bulk.MANIFEST].splitlines()
    assert {**two, bulk.MANIFEST: b""} == {**one, bulk.MANIFEST: b""}
