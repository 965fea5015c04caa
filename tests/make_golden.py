"""Writes the golden streams of tests/data: run once for a new format version or a newly released model.

python -m tests.make_golden glc-image-0.03@1
python -m tests.make_golden glc-video-0.01@1
"""

import hashlib
import json
import sys
from pathlib import Path

from PIL import Image

from glc_toolkit import api, zoo
from glc_toolkit.coder import Decoder
from glc_toolkit.models import GLCVideo

DATA = Path(__file__).parent / "data"


def latent_hash(data: bytes, device: str = "cpu") -> str:
    """SHA-256 of what the entropy decoder makes of a file."""
    stream, model = api.open_stream(data)
    y_hat = model.to(device).decode_latent(Decoder(stream.payload), (stream.height, stream.width))
    return hashlib.sha256(y_hat.double().cpu().numpy().tobytes()).hexdigest()


def references_hash(data: bytes) -> str:
    """SHA-256 of the latents that the frames of a video leave for the next."""
    header, at, model = api.open_video(data)
    digest, reference = hashlib.sha256(), None
    for frame in api.videostream.records(data, at):
        shape = (header.height, header.width)
        reference = model.decode_payload(frame.payload, frame.quality_code, shape, None if frame.intra else reference)
        digest.update(reference.l_hat.double().numpy().tobytes())
    return digest.hexdigest()


def photo() -> Image.Image:
    return Image.open(DATA.parent.parent / "docs" / "images" / "lake.png").convert("RGB")


def model_of(name: str) -> str:
    """The model that a golden file names."""
    return name.removesuffix(".glv").removesuffix("-v2") if name.endswith(".glv") else name.rsplit("-", 1)[0]


def golden_frames() -> list[Image.Image]:
    return [photo().crop((100 + 2 * i, 100 + i, 276 + 2 * i, 244 + i)) for i in range(12)]


def known(index: Path) -> dict:
    return json.loads(index.read_text()) if index.exists() else {}


def main(model: str) -> None:
    DATA.mkdir(exist_ok=True)
    if isinstance(zoo.load(model), GLCVideo):
        small = [frame.resize((88, 72)) for frame in golden_frames()]
        streams = {
            f"{model}.glv": api.encode_video(golden_frames(), model, quality=1.5, intra_period=8),
            f"{model}-v2.glv": api.encode_video(small, model, max_bytes=400, intra_period=8),
        }
        index = DATA / "golden_video.json"
        golden = known(index)
        for name, chunks in streams.items():
            data = b"".join(chunks)
            (DATA / name).write_bytes(data)
            golden[name] = references_hash(data)
        index.write_text(json.dumps(golden, indent=2) + "\n")
        return
    index = DATA / "golden.json"
    golden = known(index)
    for quality, size in ((0, (200, 130)), (None, (333, 257)), (1.5, (64, 1))):
        data = api.encode(photo().crop((100, 100, 100 + size[0], 100 + size[1])), model=model, quality=quality)
        name = f"{model}-{size[0]}x{size[1]}.glc"
        (DATA / name).write_bytes(data)
        golden[name] = {"size": size, "y_hat": latent_hash(data)}
    index.write_text(json.dumps(golden, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
