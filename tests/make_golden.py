"""Writes the golden streams of tests/data: run once for a new format version or a newly released model.

python -m tests.make_golden glc-image-0.03
"""

import hashlib
import json
import sys
from pathlib import Path

from PIL import Image

from glc_toolkit import api
from glc_toolkit.coder import Decoder

DATA = Path(__file__).parent / "data"


def latent_hash(data: bytes, device: str = "cpu") -> str:
    """SHA-256 of what the entropy decoder makes of a file."""
    stream, model = api.open_stream(data)
    y_hat = model.to(device).decode_latent(Decoder(stream.payload), (stream.height, stream.width))
    return hashlib.sha256(y_hat.double().cpu().numpy().tobytes()).hexdigest()


def main(model: str) -> None:
    DATA.mkdir(exist_ok=True)
    index = DATA / "golden.json"
    golden = json.loads(index.read_text()) if index.exists() else {}
    photo = Image.open(DATA.parent.parent / "docs" / "images" / "lake.png").convert("RGB")
    for quality, size in ((0, (200, 130)), (None, (333, 257)), (1.5, (64, 1))):
        data = api.encode(photo.crop((100, 100, 100 + size[0], 100 + size[1])), model=model, quality=quality)
        name = f"{model}-{size[0]}x{size[1]}.glc"
        (DATA / name).write_bytes(data)
        golden[name] = {"size": size, "y_hat": latent_hash(data)}
    index.write_text(json.dumps(golden, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
