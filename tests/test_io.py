import io as bytes_io
import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps, features

from glc_toolkit import io
from tests.icc import BLUE, GREEN, RED, profile


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


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_what_pillow_makes_of_it(noise, orientation):
    image = Image.fromarray(noise)
    image.getexif()[0x0112] = orientation
    assert np.array_equal(np.asarray(io.to_pillow(io.to_tensor(image))), np.asarray(ImageOps.exif_transpose(image)))


def test_a_tag_of_the_wrong_type_does_not_hide_the_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    damaged = exif.tobytes().replace(b"\x01\x0f", b"\x01\x01")  # the height, as text
    Image.new("RGB", (16, 8)).save(tmp_path / "photo.jpg", exif=damaged)
    assert io.to_tensor(tmp_path / "photo.jpg").shape == (1, 3, 16, 8)


def test_sixteen_bits_of_grey_keep_their_range():
    x = io.to_tensor(Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)))
    torch.testing.assert_close(x[0, 0, 0], torch.tensor([0.0, 32768 / 65535, 1.0]))
    file = bytes_io.BytesIO(b"P5 2 1 65535\n" + bytes([0x80, 0, 0xFF, 0xFF]))  # which Pillow reads in 32 bits
    torch.testing.assert_close(io.to_tensor(Image.open(file))[0, 0, 0], torch.tensor([32768 / 65535, 1.0]))


def test_tensors_may_be_rounded():
    assert io.to_tensor(torch.full((3, 2, 2), 0.5, dtype=torch.bfloat16)).dtype == torch.float32


def test_alpha_lies_over_white():
    assert torch.equal(io.to_tensor(Image.new("RGBA", (1, 1), (255, 0, 0, 0))), torch.ones(1, 3, 1, 1))
    transparent = np.zeros((2, 2, 4), np.uint8)
    assert torch.equal(io.to_tensor(transparent), torch.ones(1, 3, 2, 2))


@pytest.mark.skipif(not features.check("littlecms2"), reason="Pillow was built without littlecms")
def test_colours_are_meant_as_the_profile_of_a_picture_says(noise, tmp_path):
    smooth = ImageOps.scale(Image.fromarray(noise[:4, :4]), 10, Image.Resampling.BICUBIC)
    plain = io.to_tensor(smooth)
    smooth.save(tmp_path / "swapped.png", icc_profile=profile(GREEN, RED, BLUE, b"swapped"))
    swapped = io.to_tensor(tmp_path / "swapped.png")
    assert (swapped - plain[:, [1, 0, 2]]).abs().mean() < 0.02  # gamma 2.2 is not quite the curve of sRGB
    clear = smooth.convert("RGBA")
    clear.save(tmp_path / "clear.png", icc_profile=profile(GREEN, RED, BLUE, b"swapped"))
    assert torch.equal(io.to_tensor(tmp_path / "clear.png"), swapped)
    smooth.save(tmp_path / "called.png", icc_profile=profile(GREEN, RED, BLUE, b"sRGB of a kind"))
    assert torch.equal(io.to_tensor(tmp_path / "called.png"), swapped)
    for broken in (b"no profile", profile(GREEN, RED, BLUE, b"x")[:200]):
        smooth.save(tmp_path / "plain.png", icc_profile=broken)
        with pytest.warns(UserWarning, match=r"plain.png: its colour profile cannot be read; without it"):
            assert torch.equal(io.to_tensor(tmp_path / "plain.png"), plain)
    grey = smooth.convert("L")
    grey.save(tmp_path / "grey.png", icc_profile=profile(GREEN, RED, BLUE, b"of another mode"))
    with pytest.warns(UserWarning, match=r"grey.png: its colour profile is for RGB, not for GRAY; without it"):
        assert torch.equal(io.to_tensor(tmp_path / "grey.png"), io.to_tensor(grey))


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_of_several_frames_the_first_is_taken_and_that_is_said(tmp_path, suffix):
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    first.save(tmp_path / f"two.{suffix}", save_all=True, append_images=[second])
    with pytest.warns(UserWarning, match=f"two.{suffix} has 2 frames, of which only the first"):
        x = io.to_tensor(tmp_path / f"two.{suffix}")
    assert x[0, 0].min() > 0.9 and x[0, 2].max() < 0.1


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
        Image.new("L", (2, 2)).convert("I"),
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


@pytest.mark.parametrize("format, after, at, damage", [("AVIF", b"mdat", 4, bytes(50)), ("DDS", b"DDS ", 80, b"\x81")])
def test_damaged_files_are_refused_whatever_pillow_raises(tmp_path, noise, format, after, at, damage):
    buffer = bytes_io.BytesIO()
    Image.fromarray(noise).save(buffer, format)
    data = bytearray(buffer.getvalue())
    at += data.index(after)
    data[at : at + len(damage)] = damage
    (tmp_path / "damaged").write_bytes(data)
    with pytest.raises(io.PictureError, match="damaged cannot be read as a picture"):
        io.to_tensor(tmp_path / "damaged")


def test_the_limit_counts_padding_and_comes_before_any_pixel(tmp_path, noise):
    Image.fromarray(noise).save(tmp_path / "whole.png")  # 56 x 40
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:60])  # a header and no pixels
    with pytest.raises(
        io.PictureError, match=r"cut.png: 56 x 40 pixels, 4096 with padding, are above the limit of 4095"
    ):
        io.to_tensor(tmp_path / "cut.png", max_pixels=4095, multiple=64)
    with pytest.raises(io.PictureError, match="cannot be read"), Image.open(tmp_path / "cut.png") as image:
        io.to_tensor(image)
    for form in (noise, torch.from_numpy(noise).permute(2, 0, 1), Image.fromarray(noise), tmp_path / "whole.png"):
        with pytest.raises(io.PictureError, match="56 x 40"):
            io.to_tensor(form, max_pixels=2239)
        for enough in (2240, 0, None):
            assert io.to_tensor(form, max_pixels=enough).shape == (1, 3, 40, 56)
    assert io.too_large(2**16, 2**9) == ""
    assert f"{2**26} with padding, are above the limit of {2**25}" in io.too_large(2**16, 1, multiple=2**10)


def test_a_side_has_a_limit_of_its_own():
    reason = f"{2**16 + 1} x 1 pixels have a side above the limit of {2**16}; set max_pixels"
    assert io.too_large(2**16 + 1, 1).startswith(reason) and io.too_large(1, 2**16 + 1, max_pixels=2**28)
    assert io.too_large(2**16 + 1, 1, max_pixels=0) == ""


def test_picture_formats_are_those_that_pillow_reads_and_writes_itself():
    readable, writable = io.suffixes(Image.OPEN), io.suffixes(Image.SAVE)
    assert {".png", ".jpg", ".webp", ".avif", ".tif"} <= readable & writable
    assert not {".pdf", ".mpg", ".h5", ".eps", ".grib"} & readable


@pytest.mark.parametrize("error", [OSError("disk full"), RuntimeError("disk full"), KeyboardInterrupt("disk full")])
def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch, error):
    target = tmp_path / "picture.png"
    target.write_bytes(b"old")

    def broken(self, path, *args):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(Image.Image, "save", broken)
    with pytest.raises((OSError, io.PictureError, KeyboardInterrupt), match="disk full"):
        io.save(Image.new("RGB", (2, 2)), target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
    for name in ("picture.xyz", "picture.psd", "picture"):
        with pytest.raises(io.PictureError, match="picture format"):
            io.save(Image.new("RGB", (2, 2)), tmp_path / name)


def test_a_link_stays_a_link_and_a_pipe_a_pipe(tmp_path):
    file, link, pipe = (tmp_path / name for name in ("file", "link", "pipe"))
    file.write_bytes(b"old")
    link.symlink_to(file)
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    for target in (link, pipe):
        with io.replacing(target) as partial:
            partial.write_bytes(b"new")
    assert link.is_symlink() and file.read_bytes() == b"new"
    assert os.read(end, 9) == b"new"
    os.close(end)
    with (
        pytest.raises(OSError, match=r"cannot write .*file/in/it: .*/file is a file"),
        io.replacing(file / "in" / "it") as partial,
    ):
        partial.write_bytes(b"new")


def test_folders_that_lead_to_a_file_are_made(tmp_path):
    with io.replacing(tmp_path / "new" / "folders" / "file") as partial:
        partial.write_bytes(b"new")
    assert (tmp_path / "new" / "folders" / "file").read_bytes() == b"new"
