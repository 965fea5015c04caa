"""Kinds of picture files, each made here, against what they are to look like, which is computed here, too."""

import io as bytes_io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin, features

from glc_toolkit import io
from tests import icc

PATCHES = np.array([(250, 250, 250), (220, 40, 40), (40, 190, 60), (50, 70, 210), (150, 150, 150), (90, 60, 30)])
PICTURE = np.kron(PATCHES.reshape(2, 3, 3), np.ones((8, 8, 1))).astype(np.uint8)  # 16 x 24
GREY = PICTURE[..., 1]
LINEAR = icc.grey(1.0)
HALF = np.broadcast_to(np.arange(24) < 12, (16, 24))  # the left one
lcms = pytest.mark.skipif(not features.check("littlecms2"), reason="Pillow was built without littlecms")


def read(file, says: str = "") -> np.ndarray:
    """What comes of a picture, in 8-bit steps, (H, W, 3); it says so and nothing else."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        x = io.to_tensor(file)
    told = [str(warning.message) for warning in caught]
    assert len(told) == bool(says) and says in "".join(told), told
    return x[0].permute(1, 2, 0).numpy() * 255


def png(samples: np.ndarray, bits: int, kind: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file of samples (H, W) or (H, W, C)."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = samples.reshape(len(samples), -1)
    if bits == 16:
        packed = rows.astype(">u2").view(np.uint8)
    else:
        packed = np.packbits(
            np.unpackbits(rows.astype(np.uint8)[..., None], -1)[..., 8 - bits :].reshape(len(rows), -1), -1
        )
    head = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], bits, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in packed))
    middle = b"".join(chunk(*part) for part in chunks)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + middle + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def profiled(profile: bytes) -> tuple[bytes, bytes]:
    return b"iCCP", b"name\0\0" + zlib.compress(profile)


def by_lcms(pixels: np.ndarray, profile: bytes) -> np.ndarray:
    source = ImageCms.ImageCmsProfile(bytes_io.BytesIO(profile))
    converted = ImageCms.profileToProfile(
        Image.fromarray(pixels), source, ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    return np.asarray(converted).astype(float)


def srgb_of(light: np.ndarray) -> np.ndarray:
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def light_of(levels: np.ndarray) -> np.ndarray:
    v = np.asarray(levels) / 255
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


# -- orientation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["tif", "lzw.tif", "jpg", "png", "webp", "avif"])
def test_a_picture_is_turned_once(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lzw.tif": {"compression": "tiff_lzw"}, "webp": {"lossless": True}, "jpg": {"quality": 95}}
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(PICTURE).save(file, exif=exif, **options.get(suffix, {}))
    upright = Image.fromarray(PICTURE)
    upright.getexif()[0x0112] = orientation
    wanted = np.asarray(ImageOps.exif_transpose(upright)).astype(float)
    with Image.open(file) as lazy, Image.open(file) as loaded:
        loaded.load()
        for form in (file, lazy, loaded):
            found = read(form)
            assert found.shape == wanted.shape
            assert np.abs(found - wanted).mean() < 8  # JPEG's loss


def test_exif_that_cannot_be_read_costs_no_picture():
    image = Image.fromarray(PICTURE)
    image.info["exif"] = b"Exif\0\0 no TIFF"
    assert np.array_equal(read(image, "its EXIF data cannot be read"), PICTURE)


# -- colours ------------------------------------------------------------------------------------------------------

PROFILES = {
    "P3 Gamut with sRGB Transfer": icc.profile(icc.P3_RED, icc.P3_GREEN, icc.P3_BLUE, b"P3 Gamut with sRGB Transfer"),
    "linear sRGB": icc.profile(icc.RED, icc.GREEN, icc.BLUE, b"linear sRGB", 1.0),
    "sRGB gamma 1.8": icc.profile(icc.RED, icc.GREEN, icc.BLUE, b"sRGB", 1.8),
}


@lcms
@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("format", ["png", "jpeg", "tiff", "webp", "avif"])
def test_a_profile_is_what_its_primaries_and_curve_make_it(name, format):
    file = bytes_io.BytesIO()
    Image.fromarray(PICTURE).save(file, format, icc_profile=PROFILES[name], quality=100)
    stored = np.asarray(Image.open(file).convert("RGB"))
    assert np.abs(read(Image.open(file)) - by_lcms(stored, PROFILES[name])).max() < 1
    assert np.abs(by_lcms(stored, PROFILES[name]) - stored).max() > 10


@lcms
def test_a_profile_of_srgb_changes_nothing_whatever_it_is_called():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace("sRGB".encode("utf-16-be"), "Blah".encode("utf-16-be"))
    assert np.array_equal(read(Image.open(bytes_io.BytesIO(png(PICTURE, 8, 2, profiled(profile))))), PICTURE)


@lcms
@pytest.mark.parametrize("form", ["L", "LA", "LA16", "P", "I;16", "L with tRNS"])
def test_grey_profiles(form):
    wanted = by_lcms(GREY, LINEAR)
    alpha = np.where(HALF, 255, 0).astype(np.uint8)
    palette = np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes()
    part = profiled(LINEAR)
    wide = GREY * 257
    files = {
        "L": lambda: png(GREY, 8, 0, part),
        "LA": lambda: png(np.dstack([GREY, alpha]), 8, 4, part),
        "LA16": lambda: png(np.dstack([wide, alpha * 257]), 16, 4, part),
        "P": lambda: png(GREY, 8, 3, part, (b"PLTE", palette)),
        "I;16": lambda: png(wide, 16, 0, part),
        "L with tRNS": lambda: png(GREY, 8, 0, part, (b"tRNS", struct.pack(">H", 150))),
    }
    if "LA" in form:
        wanted = np.where(HALF[..., None], wanted, 255)
    if form == "L with tRNS":
        wanted = np.where(GREY[..., None] == 150, 255, wanted)
    assert np.abs(read(Image.open(bytes_io.BytesIO(files[form]()))) - wanted).max() < 1
    assert by_lcms(np.full((1, 1), 130, np.uint8), LINEAR)[0, 0, 0] == 189


@lcms
@pytest.mark.parametrize("pixels, kind, profile", [(GREY, 0, PROFILES["linear sRGB"]), (PICTURE, 2, LINEAR)])
def test_a_profile_for_other_pixels_is_a_warning(pixels, kind, profile):
    found = read(Image.open(bytes_io.BytesIO(png(pixels, 8, kind, profiled(profile)))), "its colour profile is for")
    assert np.array_equal(found, np.broadcast_to(np.atleast_3d(pixels), found.shape))


def test_a_profile_that_cannot_be_unpacked_is_a_warning():
    data = png(PICTURE, 8, 2, (b"iCCP", b"name\0\0not deflated"))
    assert np.array_equal(read(Image.open(bytes_io.BytesIO(data)), "its colour profile cannot be read"), PICTURE)


@lcms
def test_a_profile_in_jpeg_2000():
    if not features.check("jpg_2000"):
        pytest.skip("Pillow was built without OpenJPEG")
    file = bytes_io.BytesIO()
    Image.fromarray(PICTURE).save(file, "JPEG2000")
    data, profile = file.getvalue(), PROFILES["linear sRGB"]
    at = data.index(b"colr") - 4
    box = b"colr\2\0\0" + profile
    box = (len(box) + 4).to_bytes(4, "big") + box
    old = int.from_bytes(data[at : at + 4], "big")
    parent = data.index(b"jp2h") - 4
    size = int.from_bytes(data[parent : parent + 4], "big") - old + len(box)
    data = data[:parent] + size.to_bytes(4, "big") + data[parent + 4 : at] + box + data[at + old :]
    assert np.abs(read(Image.open(bytes_io.BytesIO(data))) - by_lcms(PICTURE, profile)).max() < 1


def pq(light: np.ndarray) -> np.ndarray:
    """Light, 1 for 203 cd/m2 -> values in [0, 1] (SMPTE ST 2084)."""
    y = (np.maximum(light, 0) * 203 / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


def light_of_pq(v: np.ndarray) -> np.ndarray:
    y = v ** (1 / 78.84375)
    return (np.maximum(y - 0.8359375, 0) / (18.8515625 - 18.6875 * y)) ** (1 / 0.1593017578125) * 10000 / 203


BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # of BT.709 (BT.2087)
P3_TO_709 = np.array([[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]])
IN_PQ = (pq(light_of(PICTURE) @ BT2020.T) * 255).round().astype(np.uint8)
FROM_PQ = srgb_of(light_of_pq(IN_PQ / 255) @ np.linalg.inv(BT2020).T)  # PICTURE, as far as eight bits of PQ go


def cicp(primaries: int, transfer: int, full: int = 1) -> tuple[bytes, bytes]:
    return b"cICP", bytes([primaries, transfer, 0, full])


@pytest.mark.parametrize(
    "points, stored, wanted, within",
    [
        ((1, 13), PICTURE, PICTURE, 0),
        ((1, 1), PICTURE, PICTURE, 0),
        ((2, 2), PICTURE, PICTURE, 0),
        ((12, 13), PICTURE, srgb_of(light_of(PICTURE) @ P3_TO_709.T), 1),
        ((1, 8), PICTURE, srgb_of(PICTURE / 255), 1),
        ((1, 4), PICTURE, srgb_of((PICTURE / 255) ** 2.2), 1),
        ((1, 5), PICTURE, srgb_of((PICTURE / 255) ** 2.8), 1),
        ((9, 13), PICTURE, srgb_of(light_of(PICTURE) @ np.linalg.inv(BT2020).T), 1),
        ((1, 13, 0), PICTURE, (PICTURE - 16.0).clip(0, 219) / 219 * 255, 1),
        ((9, 16), IN_PQ, FROM_PQ, 1),
    ],
)
def test_code_points_in_png(points, stored, wanted, within):
    says = "(PQ) is mapped to that of sRGB" if points[1] == 16 else ""
    found = read(
        Image.open(bytes_io.BytesIO(png(stored, 8, 2, cicp(*points), (b"gAMA", struct.pack(">I", 20000))))), says
    )
    if points == (2, 2):  # unspecified: then gAMA is asked
        assert np.abs(found - srgb_of((PICTURE / 255) ** 5)).max() < 1
    else:
        assert np.abs(found - wanted).max() <= within


def test_code_points_come_before_a_profile_and_what_is_unknown_is_said():
    parts = cicp(1, 8), profiled(PROFILES["P3 Gamut with sRGB Transfer"])
    assert np.abs(read(Image.open(bytes_io.BytesIO(png(PICTURE, 8, 2, *parts)))) - srgb_of(PICTURE / 255)).max() < 1
    data = png(PICTURE, 8, 2, cicp(99, 13))
    assert np.array_equal(read(Image.open(bytes_io.BytesIO(data)), "code points 99/13"), PICTURE)


@pytest.mark.parametrize("transfer, name", [(16, "PQ"), (18, "HLG")])
def test_a_profile_with_code_points_of_high_dynamic_range(transfer, name):
    profile = icc.with_code_points(PROFILES["linear sRGB"], 9, transfer)
    data = png(np.full((4, 4, 3), 100, np.uint8), 8, 2, profiled(profile))
    same = png(np.full((4, 4, 3), 100, np.uint8), 8, 2, cicp(9, transfer))
    found = [read(Image.open(bytes_io.BytesIO(each)), f"({name}) is mapped") for each in (data, same)]
    assert np.array_equal(*found)


def test_highlights_roll_off_and_keep_their_order():
    nits = np.array([0, 20, 100, 203, 400, 1000, 4000])
    ramp = np.repeat((pq(nits / 203) * 65535).round().astype(np.uint16)[None, :, None], 3, 2)
    found = read(Image.open(bytes_io.BytesIO(png(ramp, 16, 2, cicp(9, 16)))), "PQ")[0, :, 0]
    assert (np.diff(found) > 0).all() and found[-1] == 255
    assert np.abs(found[:3] - srgb_of(nits[:3] / 203)).max() < 2 and 230 < found[3] < 250


def test_hlg_of_three_quarters_is_reference_white():
    """ITU-R BT.2408: 75 % of HLG is 203 cd/m2."""
    grey = np.full((2, 2), round(0.75 * 65535))
    assert np.abs(read(Image.open(bytes_io.BytesIO(png(grey, 16, 0, cicp(9, 18)))), "HLG") - 255).max() < 1


@pytest.mark.skipif(not features.check("avif"), reason="Pillow was built without AVIF")
@pytest.mark.parametrize(
    "points, wanted, within",
    [
        ((1, 13), PICTURE, 2),
        ((12, 13), srgb_of(light_of(PICTURE) @ P3_TO_709.T), 4),
        ((1, 8), srgb_of(PICTURE / 255), 4),
        ((9, 16), FROM_PQ, 9),
    ],
)
@pytest.mark.parametrize("alpha", [False, True])
def test_code_points_in_avif(points, wanted, within, alpha):
    stored = IN_PQ if points[1] == 16 else PICTURE
    if alpha:
        stored, wanted = (
            np.dstack([stored, np.where(HALF, 255, 0)]).astype(np.uint8),
            np.where(HALF[..., None], wanted, 255),
        )
    file = bytes_io.BytesIO()
    Image.fromarray(stored).save(file, "AVIF", quality=100, subsampling="4:4:4")
    data = bytearray(file.getvalue())
    at = data.index(b"colrnclx") + 8
    data[at : at + 4] = struct.pack(">HH", *points)
    says = "(PQ) is mapped to that of sRGB" if points[1] == 16 else ""
    found = read(Image.open(bytes_io.BytesIO(bytes(data))), says)
    inside = np.s_[2:6, 2:6]  # of a patch, away from what AVIF blurs
    assert np.abs(found[inside] - wanted[inside]).max() <= within
    assert np.median(np.abs(found - wanted)) <= within


@pytest.mark.parametrize("pixels, kind", [(PICTURE, 2), (GREY, 0)])
def test_gamma_and_primaries_of_png_come_last(pixels, kind):
    linear = (b"gAMA", struct.pack(">I", 100000))
    swapped = (
        b"cHRM",
        struct.pack(">8I", *(round(1e5 * v) for v in (0.3127, 0.329, 0.3, 0.6, 0.64, 0.33, 0.15, 0.06))),
    )
    srgb = (b"gAMA", struct.pack(">I", 45455))

    def found(*chunks):
        return read(Image.open(bytes_io.BytesIO(png(pixels, 8, kind, *chunks))))

    stored = np.broadcast_to(np.atleast_3d(pixels), (16, 24, 3)).astype(float)
    assert np.abs(found(linear) - srgb_of(stored / 255)).max() < 1
    assert np.array_equal(found(srgb), stored)
    assert np.array_equal(found(linear, swapped, (b"sRGB", b"\0")), stored)
    assert np.abs(found(srgb, swapped) - (stored[..., [1, 0, 2]] if kind == 2 else stored)).max() < 1
    if features.check("littlecms2"):
        profile = LINEAR if kind == 0 else PROFILES["sRGB gamma 1.8"]
        assert np.abs(found(linear, profiled(profile)) - by_lcms(pixels, profile)).max() < 1


# -- transparency -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("loaded", [False, True])
def test_a_transparent_grey_is_named_in_the_depth_of_the_file(tmp_path, bits, loaded):
    most = 2**bits - 1
    samples = np.where(HALF, most // 2, most - most // 3)
    (tmp_path / "a.png").write_bytes(png(samples, bits, 0, (b"tRNS", struct.pack(">H", most // 2))))
    image = Image.open(tmp_path / "a.png")
    if loaded:
        image.load()
    shown = np.where(HALF, 255, (most - most // 3) / most * 255)
    assert np.abs(read(image)[..., 0] - shown).max() < 1e-2


@pytest.mark.parametrize("bits", [8, 16])
def test_a_transparent_colour_is_compared_in_full_depth(bits):
    key = np.array([0x1234, 0xABCD, 0x5678]) if bits == 16 else np.array([1, 2, 3])
    near = key + np.array([0, 0, 1])  # by the last bit another
    samples = np.where(HALF[..., None], key, near)
    found = read(Image.open(bytes_io.BytesIO(png(samples, bits, 2, (b"tRNS", struct.pack(">3H", *key))))))
    assert (found[HALF] == 255).all()
    assert np.abs(found[~HALF] - near / (2**bits - 1) * 255).max() < 1


@pytest.mark.parametrize("mode", ["LA", "La", "RGBA", "RGBa", "PA"])
def test_every_mode_with_alpha_lies_over_white(mode):
    straight = Image.new("RGBA", (4, 4), (100, 100, 100, 51))
    over_white = 100 * 0.2 + 255 * 0.8
    path = {"La": ["LA", "La"], "PA": ["PA"]}.get(mode, [mode])
    for step in path:
        straight = straight.convert(step)
    assert np.abs(read(straight) - over_white).max() <= 2


def test_colours_are_converted_before_they_are_laid_over_white():
    half = np.dstack([np.full((4, 4), 128), np.full((4, 4), 128)])
    found = read(Image.open(bytes_io.BytesIO(png(half, 8, 4, (b"gAMA", struct.pack(">I", 100000))))))
    assert np.abs(found - (srgb_of(np.float64(128 / 255)) * 128 / 255 + 255 * 127 / 255)).max() <= 1


# -- sixteen bits -------------------------------------------------------------------------------------------------


def test_grey_whose_zero_is_white(tmp_path):
    wide = np.arange(0, 65536, 1000, dtype=np.uint16)[None]
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for compression in ("raw", "tiff_lzw"):
        Image.fromarray(wide).save(tmp_path / "a.tif", tiffinfo=tags, compression=compression)
        data = bytearray((tmp_path / "a.tif").read_bytes())
        entry = struct.pack("<HHI", 262, 3, 1)
        at = data.index(entry) + 8
        data[at : at + 2] = bytes(2)
        (tmp_path / "a.tif").write_bytes(data)
        assert np.abs(read(tmp_path / "a.tif")[0, :, 0] - (65535.0 - wide[0]) / 65535 * 255).max() < 1e-2


def test_twelve_bits_of_tiff_are_the_whole_range():
    samples = np.array([0, 1000, 2048, 4095])
    bits = np.unpackbits(samples.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, 4:].reshape(-1)
    pixels = np.packbits(bits).tobytes()
    tags = [(256, 4), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, len(pixels))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)
    found = read(Image.open(bytes_io.BytesIO(data)))
    assert np.abs(found[0, :, 0] - samples / 4095 * 255).max() < 1e-2
