import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(6):
        array = np.random.default_rng(i).integers(0, 256, (48, 56, 3), dtype=np.uint8)
        Image.fromarray(array).resize((112, 96)).save(folder / f"{i}.png")
    return folder
