"""Adds what the golden streams decode to on this machine to tests/data/platforms.json.

python -m tests.record_platform [DEVICE]
"""

import json
import platform
import sys

import torch

from tests.make_golden import DATA, latent_hash


def main(device: str = "cpu") -> None:
    file = DATA / "platforms.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    where = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    golden = json.loads((DATA / "golden.json").read_text())
    known[f"torch {torch.__version__} {where}"] = {n: latent_hash((DATA / n).read_bytes(), device) for n in golden}
    file.write_text(json.dumps(known, indent=2) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
