"""Peak memory and seconds of encoding and decoding by the size of the picture, and the plot of it for the docs.

python -m benchmarks.memory [--model glc-image-0.03] [--precision bf16] [--megapixels 1 4 10 20 40] [--plot memory.png]
"""

import argparse
import json
import time

import torch

from glc_toolkit.evaluation import bench
from glc_toolkit.evaluation.memory import peak_memory


def measure(model, width: int, height: int) -> dict:
    """GB of the process at its highest, in either direction, and what it has with nothing to do."""
    device = next(model.parameters()).device
    code = model.quality_code(None)
    peak_memory(device)
    idle = peak_memory(device)
    x = bench.picture(width, height).to(device)
    peak_memory(device)
    started = time.perf_counter()
    stream = model.encode_payload(model.analysis(x), code)
    encoded = time.perf_counter()
    encode_peak = peak_memory(device)
    del x
    model.decode_payload(stream, code, (height, width))
    return {
        "width": width,
        "height": height,
        "megapixels": width * height / 1e6,
        "idle_gb": idle / 1e9,
        "encode_gb": encode_peak / 1e9,
        "decode_gb": peak_memory(device) / 1e9,
        "encode_seconds": encoded - started,
        "decode_seconds": time.perf_counter() - encoded,
    }


def plot(rows: list[dict], title: str, path: str) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.5), layout="constrained")
    for key in ("encode_gb", "decode_gb"):
        axes.plot([row["megapixels"] for row in rows], [row[key] for row in rows], "o-", label=key.split("_")[0])
    axes.set(xlabel="megapixels", ylabel="peak memory of the process, GB", title=title, xlim=0, ylim=0)
    axes.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="glc-image-0.03")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1, 4, 10, 20, 40])
    parser.add_argument("--plot")
    options = parser.parse_args()
    model = bench.load(options.model, precision=options.precision)
    rows = []
    with torch.no_grad():
        for megapixels in options.megapixels:
            side = int((1e6 * megapixels) ** 0.5)
            rows.append(measure(model, side, side))
            print(json.dumps(rows[-1]), flush=True)
    if options.plot:
        plot(rows, f"{options.model}, {options.precision}", options.plot)


if __name__ == "__main__":
    main()
