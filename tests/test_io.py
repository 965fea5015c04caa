import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from glc_toolkit import io


@given(
    st.integers(1, 700),
    st.integers(1, 500),
    st.sampled_from(["RGB", "L", "RGBA", "LA", "P", "CMYK", "1", "I;16", "YCbCr", "HSV"]),
    st.sampled_from([None, 1, 3, 6, 8]),
)
def test_any_picture_becomes_x(width, height, mode, orientation):
    if mode == "I;16":
        image = Image.fromarray(np.arange(width * height, dtype=np.uint16).reshape(height, width))
    else:
        image = Image.new("RGB", (width, height), (200, 30, 90)).convert(mode)
    if orientation:
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.info["exif"] = exif.tobytes()
    x = io.to_tensor(image)
    turned = orientation in (6, 8)
    assert x.shape == (1, 3, *((width, height) if turned else (height, width)))
    assert x.dtype == torch.float32 and x.min() >= 0 and x.max() <= 1


def test_orientation_in_a_file_is_applied(tmp_path):
    array = np.zeros((8, 16, 3), np.uint8)
    array[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated clockwise
    Image.fromarray(array).save(tmp_path / "turned.png", exif=exif)
    x = io.to_tensor(tmp_path / "turned.png")
    assert x.shape == (1, 3, 16, 8)
    assert x[0, 0, 0, 0] == 1 and x[0, 0, -1, 0] == 0


def test_sixteen_bits_of_grey_keep_their_range():
    x = io.to_tensor(Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)))
    torch.testing.assert_close(x[0, 0, 0], torch.tensor([0.0, 32768 / 65535, 1.0]))


def test_alpha_lies_over_white():
    assert torch.equal(io.to_tensor(Image.new("RGBA", (1, 1), (255, 0, 0, 0))), torch.ones(1, 3, 1, 1))
    transparent = np.zeros((2, 2, 4), np.uint8)
    assert torch.equal(io.to_tensor(transparent), torch.ones(1, 3, 2, 2))


def test_eight_bits_come_back(noise):
    assert np.array_equal(np.asarray(io.to_pillow(io.to_tensor(noise))), noise)


@pytest.mark.parametrize(
    "thing",
    [
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4), np.int64),
        np.full((4, 4), np.nan),
        np.full((4, 4), 1.5),
        torch.zeros(2, 3, 4, 4),
        torch.zeros(4, 4),
        Image.new("F", (2, 2)),
        7,
        "no/such/file.png",
        ".",
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(thing):
    with pytest.raises(io.PictureError) as error:
        io.to_tensor(thing)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(20)])
def test_broken_files_are_refused(tmp_path, content):
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(io.PictureError, match="cannot be read"):
        io.to_tensor(tmp_path / "broken.png")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "picture.png"
    target.write_bytes(b"old")

    def broken(self, path, *args):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", broken)
    with pytest.raises(io.PictureError, match="disk full"):
        io.save(Image.new("RGB", (2, 2)), target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(io.PictureError, match="picture format"):
        io.save(Image.new("RGB", (2, 2)), tmp_path / "picture.xyz")
