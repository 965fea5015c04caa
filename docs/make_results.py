"""Measure a model of this checkout's zoo for the pages.

    python docs/make_results.py glc-image-0.03 KODAK
    python docs/make_results.py glc-video-0.01 CLIPS [--effort] [CLIP ...]

The argument is the name of a folder in ``zoo/``. Results go to ``results/FOLDER``, and then into the pages
(``make_tables.py``). What is there already is not measured again: remove a file to renew it.

An image model is measured on the folder ``KODAK`` at its lowest, usual and highest level. For the default image model
there is more: every sixth picture with effort, the same files without fixed point, the photograph of the README, and
the photographs of the gallery, alone and beside other codecs. Their decoded pictures are written, too. One of these
codecs is VVenC, whose programs have to be in PATH.

A video model codes the first 96 frames of each clip of the folder ``CLIPS`` with one intra frame, at each level
but the lowest, and with ``--effort`` again, by descent, which takes hours. x265 and x264 get no fewer bytes than the
model without effort. The image model of the intra frames codes every sixteenth frame alone, and at two levels the
default image model draws every sixteenth decoded frame; all metrics are of these frames. Networks run in bf16.
``images/video.png`` shows the means, ``images/video.webp`` a clip.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import numpy as np
from make_tables import ARTIST, CLIPS, IMAGE, RESULTS, ROOT, VIDEO, main, means
from PIL import Image

import glc_toolkit as glc
from glc_toolkit import api, io, registry, zoo
from glc_toolkit.evaluation import video
from glc_toolkit.evaluation.codecs import named
from glc_toolkit.evaluation.curves import plot
from glc_toolkit.evaluation.evaluate import METRICS, measure
from glc_toolkit.evaluation.learned import GLCClip
from glc_toolkit.models import GLCVideo

IMAGES = ROOT / "docs" / "images"
PHOTOGRAPHS = IMAGES / "gallery"
RIVALS = {
    "avif-quarter": "AVIF at a quarter of the width + Real-ESRGAN",
    "avif-half": "AVIF at half the width",
    "avif": "AVIF",
    "webp": "WebP",
    "jpeg": "JPEG",
}
COMPARED = ("avif-quarter", "avif-half", "avif", "jxl", "x265", "program:docs/compare/vvenc.yaml")  # in the tutorial
EFFORTS = (10,)
STILL, EFFORT = "its image model", 32
FRAMES, EVERY = 96, 16
LOOP_CLIP, LOOP_LEVEL, LOOP_SIDE, LOOP_EVERY = "cityCC0.mpg", 2.0, 320, 4  # CC0, so a cut of it may be shown


def write(facts, file: Path) -> None:
    file.write_text(json.dumps(facts, indent=1) + "\n")


def run(*command: object) -> str:
    """What a module of this checkout prints."""
    words = [sys.executable, "-m", *map(str, command)]
    return subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def image_results(name: str, kodak: Path) -> None:
    out, model = RESULTS / name, zoo.load(ROOT / "zoo" / name)
    levels = sorted({0.0, model.default_quality, model.levels - 1.0})
    default = name == IMAGE
    steps = {
        "kodak.json": lambda: on_kodak(name, kodak, levels),
        "effort.json": lambda: with_effort(name, kodak, model.default_quality),
        "fixed-point.json": lambda: without_fixed_point(name, kodak, [model.default_quality, model.levels - 1]),
        "demo.json": lambda: demo(name),
        "gallery.json": lambda: gallery(name, model),
        "compare.json": lambda: compare(name),
    }
    for file, step in steps.items():
        if not (out / file).exists() and (default or file == "kodak.json"):
            write(step(), out / file)


def on_kodak(name: str, kodak: Path, levels: list[float]) -> dict:
    return evaluated(name, kodak, levels, "--protocol", "glc-kodak-v1")


def with_effort(name: str, kodak: Path, level: float) -> dict:
    """``{steps: result}`` on every sixth picture: each step draws the picture and goes back through the network."""
    with TemporaryDirectory() as folder:
        for picture in sorted(kodak.glob("*.png"))[::6]:
            shutil.copy(picture, folder)
        return {steps: evaluated(name, Path(folder), [level], "--effort", steps) for steps in (0, *EFFORTS)}


def evaluated(name: str, pictures: Path, levels: list[float], *more: object) -> dict:
    codec = f"{ROOT / 'zoo' / name}:{','.join(f'{level:g}' for level in levels)}"
    metrics = [word for metric in (*METRICS, "grid", "kd-efflite0") for word in ("--metric", metric)]
    rows = ROOT / "runs" / "results" / name / "-".join(map(str, more)).strip("-")  # a run goes on from there
    (result,) = json.loads(run("glc_toolkit", "eval", pictures, "-c", codec, *metrics, *more, "-o", rows, "--json"))
    result["command"] = result["command"].replace(f"{ROOT}/", "").replace(str(pictures), "kodak")
    return result


def compare(name: str) -> list[dict]:
    """The photographs of the gallery, by codecs that come as near to the rate of the model's name as they can."""
    model = ROOT / "zoo" / name
    codecs = [word for codec in (model, *COMPARED) for word in ("-c", codec)]
    with TemporaryDirectory() as folder:
        for photograph in PHOTOGRAPHS.glob("*-original.webp"):
            shutil.copy(photograph, folder)
        results = json.loads(run("glc_toolkit", "eval", folder, *codecs, "--match-bpp", "0.03", "--json"))
    return [{"name": name if i == 0 else r["name"], "results": r["results"]} for i, r in enumerate(results)]


def without_fixed_point(name: str, kodak: Path, levels: list[float]) -> list[dict]:
    qualities = [word for level in levels for word in ("-q", f"{level:g}")]
    lines = run("benchmarks.fixed_point_bytes", kodak, "-m", ROOT / "zoo" / name, *qualities).splitlines()
    return [json.loads(line) for line in lines]


def demo(name: str) -> list[dict]:
    out = ROOT / "runs" / "results" / name
    rows = run("glc_toolkit", "demo", IMAGES / "lake.png", "-m", ROOT / "zoo" / name, "-o", out, "-y", "--json")
    Image.open(out / "lake-comparison.png").save(IMAGES / "lake-comparison.webp", quality=85, method=6)
    return json.loads(rows)


def gallery(name: str, model: api.GLCImage) -> dict:
    """Every photograph at a low, the usual and the highest quality, beside rivals at the size nearest to that of the
    usual quality. Rivals that cannot be so small are at their smallest."""
    metrics = {metric: registry.build("metric", {"name": metric}) for metric in METRICS}
    for file in PHOTOGRAPHS.glob("*.webp"):
        if not file.stem.endswith("-original"):
            file.unlink()
    photographs = []
    for photograph in sorted(PHOTOGRAPHS.glob("*-original.webp")):
        x = io.to_tensor(photograph)
        original = io.to_pillow(x)
        usual = len(glc.encode(photograph, model=model))
        rows = []

        def coded(
            codec: str, end: str, data: bytes, decoded: Image.Image, photograph=photograph, x=x, rows=rows
        ) -> None:
            file = photograph.name.replace("-original", f"-{end}")
            decoded.save(PHOTOGRAPHS / file, quality=85, method=6)
            facts = {"codec": codec, "file": file, "bytes": len(data), "bpp": 8 * len(data) / x[0, 0].numel()}
            rows.append({**facts, **measure(io.to_tensor(decoded), x, metrics)})

        for quality in dict.fromkeys([0.0, model.default_quality, model.levels - 1.0]):
            data = glc.encode(photograph, model=model, quality=quality)
            coded(f"GLC q{quality:g}", f"{quality:g}", data, glc.decode(data, model=model))
        for rival, title in RIVALS.items():
            family, _ = named(rival)
            codec = family.at(family.nearest(original, usual))
            data = codec.encode(original)
            coded(title, rival, data, codec.decode(data))
        photographs.append({"photograph": photograph.name, "width": x.shape[3], "height": x.shape[2], "rows": rows})
    return {"model": name, "quality": model.default_quality, "photographs": photographs}


def stills(path: Path, model: api.GLCImage, levels: list[float]) -> list[dict]:
    """Every frame as a picture of its own, at levels of the image model: what prediction is measured against."""
    frames = video.read(path, FRAMES)[1][::EVERY]
    rows = []
    for level in levels:
        files = [api.encode(frame, model=model, quality=level) for frame in frames]
        decoded = [np.asarray(api.decode(data, model=model)) for data in files]
        bpp = fmean(8 * len(data) / frame[..., 0].size for data, frame in zip(files, frames, strict=True))
        row = {"clip": path.name, "codec": STILL, "setting": level, "bpp": bpp}
        rows.append({**row, **video.quality_of(decoded, frames), "flicker": None})  # the frames are no neighbours
    return rows


def drawn(data: bytes, model: GLCVideo, artist: api.GLCImage, every: int) -> list[np.ndarray]:
    """Every so many frames of a file, drawn by another generator of the same latent."""
    header, at, _ = api.open_video(data, model)
    shape, reference, pictures = (header.height, header.width), None, []
    for frame in api.videostream.records(data, at):
        reference = model.decode_payload(frame.payload, frame.quality_code, shape, reference)
        if frame.number % every == 0:
            pictures.append(np.asarray(io.to_pillow(model.reconstruct(reference, shape, artist))))
    return pictures


def drawn_by(artist: api.GLCImage, path: Path, model: GLCVideo, levels: list[float]) -> list[dict]:
    """What :func:`drawn` gives, measured."""
    clip, frames = video.read(path, FRAMES)
    rows = []
    for level in levels:
        data = GLCClip(model, level).encode(frames, fps=clip.fps)
        row = {"clip": path.name, "codec": ARTIST, "setting": level}
        row |= {"bytes": len(data), "bpp": 8 * len(data) / (len(frames) * frames[0][..., 0].size)}
        metrics = video.quality_of(drawn(data, model, artist, EVERY), frames[::EVERY])
        rows.append({**row, **metrics, "flicker": None})  # the frames are no neighbours
    return rows


def side_by_side(path: Path, model: GLCVideo, artist: api.GLCImage, level: float) -> dict:
    """A loop for the page: the middle of a clip, its original, the model, the same file drawn by another generator, and
    x265 in no fewer bytes. Gives what the page says of it."""
    clip, frames = video.read(path, FRAMES)
    own = GLCClip(model, level)
    data = own.encode(frames, fps=clip.fps)
    crf = video.nearest(frames, "libx265", clip.fps, len(data))
    rival = video.classic(frames, "libx265", clip.fps, crf)
    columns = [frames[::LOOP_EVERY], own.decode(data)[::LOOP_EVERY]]
    columns += [drawn(data, model, artist, LOOP_EVERY), rival.decoded[::LOOP_EVERY]]
    top, left = ((length - LOOP_SIDE) // 2 for length in frames[0].shape[:2])
    place = slice(top, top + LOOP_SIDE), slice(left, left + LOOP_SIDE)
    first, *rest = (
        Image.fromarray(np.concatenate([frame[place] for frame in row], 1)) for row in zip(*columns, strict=True)
    )
    times = {"duration": round(1000 * LOOP_EVERY / clip.fps), "loop": 0}
    first.save(IMAGES / "video.webp", save_all=True, append_images=rest, quality=60, method=6, **times)
    return {"clip": path.name, "frames": len(frames), "level": level, "bytes": len(data), "x265": len(rival.data)}


def video_results(name: str, folder: Path, clips: tuple[str, ...]) -> None:
    file, model = RESULTS / name / "clips.json", zoo.load(ROOT / "zoo" / name, precision="bf16")
    rows = json.loads(file.read_text()) if file.exists() else []
    own, levels = model.config["name"], [float(level) for level in range(1, model.levels)]
    effort, clips = "--effort" in clips, tuple(clip for clip in clips if clip != "--effort")
    artist = zoo.load(ROOT / "zoo" / IMAGE, precision="bf16")
    for path in sorted(folder.iterdir()):
        if clips and path.name not in clips:
            continue
        known = {row["codec"] for row in rows if row["clip"] == path.name}
        if own not in known:
            rows += video.compare(path, model, levels, FRAMES, EVERY, done=print)
            rows += stills(path, model.image, levels)
        if ARTIST not in known and artist.has_latent_of(model):
            rows += drawn_by(artist, path, model, levels[:2])
        if effort and f"{own}-effort{EFFORT}" not in known:
            rows += video.compare(path, model, levels, FRAMES, EVERY, rivals=(), done=print, effort=EFFORT)
        write(rows, file)
        if path.name == LOOP_CLIP and name == VIDEO and not (file.parent / "loop.json").exists():
            write(side_by_side(path, model, artist, LOOP_LEVEL), file.parent / "loop.json")
    curves = [
        {"name": codec, "description": f"{FRAMES} frames, mean of the clips", "results": results}
        for codec, results in means(rows).items()
    ]
    plot(curves, IMAGES / "video.png", CLIPS[1:])


def measured(name: str, folder: str, *clips: str) -> None:
    (RESULTS / name).mkdir(exist_ok=True)
    if isinstance(zoo.load(ROOT / "zoo" / name), GLCVideo):
        video_results(name, Path(folder).resolve(), clips)
    else:
        image_results(name, Path(folder).resolve())
    main()


if __name__ == "__main__":
    measured(*sys.argv[1:])
