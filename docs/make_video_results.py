"""Compare a video model with x265, x264 and an image model on clips, at the same bytes.

    python docs/make_video_results.py FOLDER [CLIP ...]

codes the first 96 frames of each clip of FOLDER (or of those named) with one intra frame, at each level, without effort
and with; the classic codecs at no fewer bytes than without; and every eighth frame, the same that metrics are of, with
the image model of the intra frames. Writes ``results/glc-video-0.01.json`` and ``images/video.png``, and
prints the tables of the model card. What is in the results is not measured again.
"""

import json
import sys
from pathlib import Path
from statistics import fmean

import numpy as np

from glc_toolkit import api, zoo
from glc_toolkit.evaluation import video
from glc_toolkit.evaluation.curves import plot

DOCS = Path(__file__).parent
RESULTS = DOCS / "results" / "glc-video-0.01.json"
MODEL, STILL, EFFORT = "glc-video-0.01", "its image model", 32
SEARCHED = f"{MODEL}-effort{EFFORT}"
FRAMES, EVERY = 96, 8
SHOWN = ("bpp", "psnr", "lpips-alex", "lpips-vgg", "dists", "flicker")


def stills(path: Path, model: api.GLCImage) -> list[dict]:
    """Every frame as a picture of its own, at the levels of the image model: what prediction is measured against."""
    frames = video.read(path, FRAMES)[1][::EVERY]
    rows = []
    for level in range(model.levels):
        files = [api.encode(frame, model=model, quality=float(level)) for frame in frames]
        decoded = [np.asarray(api.decode(data, model=model)) for data in files]
        bpp = fmean(8 * len(data) / frame[..., 0].size for data, frame in zip(files, frames, strict=True))
        row = {"clip": path.name, "codec": STILL, "setting": float(level), "bpp": bpp}
        rows.append({**row, **video.quality_of(decoded, frames), "flicker": None})  # the frames are no neighbours
    return rows


def means(rows: list[dict]) -> list[dict]:
    """A curve for each codec: its rows of the clips are by level, and the mean of a level is over clips."""
    curves = []
    for codec in dict.fromkeys(row["codec"] for row in rows):
        own = [row for row in rows if row["codec"] == codec]  # not every clip may have been measured with it
        clips = [[row for row in own if row["clip"] == clip] for clip in {row["clip"] for row in own}]
        levels = list(zip(*clips, strict=True))
        results = {
            key: [fmean(r[key] for r in level) for level in levels]
            for key in SHOWN
            if levels[0][0].get(key) is not None
        }
        curves.append(
            {"name": codec, "description": f"{FRAMES} frames, mean of {len(clips)} clips", "results": results}
        )
    return curves


def line(*cells: object) -> str:
    return "| " + " | ".join("" if c is None else f"{c:.4g}" if isinstance(c, float) else str(c) for c in cells) + " |"


def main(folder: str, *names: str) -> None:
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    model = zoo.load(MODEL)
    for path in sorted(Path(folder).iterdir()):
        if names and path.name not in names:
            continue
        levels = [float(level) for level in range(model.levels)]
        known = {row["codec"] for row in rows if row["clip"] == path.name}
        if MODEL not in known:
            rows += video.compare(path, model, levels, FRAMES, EVERY, done=print)
            rows += stills(path, model.image)
        if SEARCHED not in known:
            rows += video.compare(path, model, levels, FRAMES, EVERY, rivals=(), done=print, effort=EFFORT)
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    curves = means(rows)
    plot(curves, DOCS / "images" / "video.png", SHOWN[1:])
    print(line("codec", "level", *SHOWN), line(*["---"] * (len(SHOWN) + 2)), sep="\n")
    for curve in curves:
        for level in range(len(curve["results"]["bpp"])):
            print(line(curve["name"], level, *(curve["results"].get(key, [None] * 9)[level] for key in SHOWN)))
    print(line("clip", "codec", "setting", *SHOWN), line(*["---"] * (len(SHOWN) + 3)), sep="\n")
    for row in rows:
        print(line(row["clip"], row["codec"], row["setting"], *(row.get(key) for key in SHOWN)))


if __name__ == "__main__":
    main(*sys.argv[1:])
