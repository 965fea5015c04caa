import contextlib
import copy
import json
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import glc_toolkit as glc
from glc_toolkit import api, zoo
from glc_toolkit.doctor import diagnose
from glc_toolkit.models import GLCVideo
from tests.conftest import moving_config
from tests.make_golden import DATA, references_hash


@settings(max_examples=25)
@given(st.integers(1, 700), st.integers(1, 500), st.sampled_from(["RGB", "L", "RGBA", "P", "CMYK"]), st.floats(0, 2))
def test_any_size_and_mode_comes_back_in_size(tiny_model, width, height, mode, quality):
    image = Image.radial_gradient("L").resize((width, height)).convert("RGB").convert(mode)
    data = glc.encode(image, model=tiny_model, quality=quality)
    decoded = glc.decode(data, model=tiny_model)
    assert decoded.size == (width, height) and decoded.mode == "RGB"


def test_every_form_of_a_picture_gives_the_same_bytes(tiny_model, noise, tmp_path):
    Image.fromarray(noise).save(tmp_path / "noise.png")
    tensor = torch.from_numpy(noise).permute(2, 0, 1)
    forms = [noise, Image.fromarray(noise), tmp_path / "noise.png", str(tmp_path / "noise.png"), tensor, tensor[None]]
    assert len({glc.encode(form, model=tiny_model) for form in forms}) == 1


def test_files_are_given_as_bytes_or_paths(tiny_model, noise, tmp_path):
    data = glc.encode(noise, model=tiny_model)
    (tmp_path / "noise.glc").write_bytes(data)
    for form in (tmp_path / "noise.glc", str(tmp_path / "noise.glc")):
        assert glc.decode(form, model=tiny_model).tobytes() == glc.decode(data, model=tiny_model).tobytes()
        assert api.info(form, model=tiny_model) == api.info(data, model=tiny_model)


@pytest.fixture(scope="module")
def file(photo) -> bytes:
    return glc.encode(photo)


def test_the_shipped_model_does_its_job(photo, file, known):
    """As the README says. Machines differ in some symbols, which cost a few bytes and hundredths of a dB."""
    error = np.asarray(glc.decode(file), float) - np.asarray(photo, float)
    assert len(file) == pytest.approx(known["bytes"], rel=0.03)
    assert 10 * np.log10(255**2 / np.square(error).mean()) == pytest.approx(known["psnr"], abs=0.2)


@pytest.fixture(scope="module")
def crop(photo):
    """A quarter of the photograph, for searches, which code it again and again."""
    return photo.crop((100, 100, 356, 356))


@pytest.fixture(scope="module")
def sizes(crop, model):
    """Bytes of its file at each level."""
    return [len(glc.encode(crop, model=model, quality=q)) for q in range(model.levels)]


def test_quality_rises_in_bytes(sizes):
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_target_bpp_is_kept_and_used(crop, model, sizes, share):
    """Between two levels, and above the highest."""
    target = 8 * (sizes[0] + share * (sizes[-1] - sizes[0])) / (crop.width * crop.height)
    bpp = 8 * len(glc.encode(crop, model=model, target_bpp=target)) / (crop.width * crop.height)
    highest = 8 * sizes[-1] / (crop.width * crop.height)
    assert bpp <= target
    assert bpp >= 0.95 * min(target, highest)


def test_max_bytes(crop, model, sizes):
    budget = (sizes[0] + sizes[-1]) // 2
    assert sizes[0] < len(glc.encode(crop, model=model, max_bytes=budget)) <= budget
    with pytest.raises(ValueError, match="over the budget of 20"):
        glc.encode(crop, model=model, max_bytes=20)
    with pytest.raises(ValueError, match="not several"):
        glc.encode(crop, model=model, max_bytes=20, quality=1)


@pytest.mark.parametrize("budget", [{name: v} for name in ("target_bpp", "max_bytes") for v in (0, -1, np.nan, np.inf)])
def test_impossible_budgets_are_refused(tiny_model, noise, budget):
    with pytest.raises(ValueError, match=f"{next(iter(budget))} has to be a positive number"):
        glc.encode(noise, model=tiny_model, **budget)


def test_a_search_takes_one_fingerprint_and_says_how_far_it_is(tiny_model, noise, monkeypatch):
    fingerprint, calls, shares = tiny_model.fingerprint(), [], []
    monkeypatch.setattr(tiny_model, "fingerprint", lambda: calls.append(1) or fingerprint)
    data = glc.encode(noise, model=tiny_model, target_bpp=1e300, progress=shares.append)
    assert len(calls) == 1
    assert api.info(data, tiny_model)["quality"] == tiny_model.levels - 1
    assert len(shares) > 6 and shares == sorted(shares) and shares[0] > 0 and 0.8 < shares[-1] <= 1


def test_sizes_are_bounded_with_their_padding(tiny_model, noise):
    """A header of 13 bytes may claim a line of 2**26 pixels, which padding makes 64 times as many."""
    line = api.bitstream.ImageStream(tiny_model.fingerprint(), 0, 2**26, 1, b"x").to_bytes()
    flat = api.bitstream.ImageStream(tiny_model.fingerprint(), 0, 2**16, 513, b"x").to_bytes()
    for read in (glc.decode, api.info):
        with pytest.raises(glc.BitstreamError, match="67108864 x 1 pixels have a side above the limit of 65536"):
            read(line, tiny_model)
        with pytest.raises(glc.BitstreamError, match=f"65536 x 513 pixels, {2**16 * 576} with padding"):
            read(flat, tiny_model)
    data = glc.encode(noise, model=tiny_model, max_pixels=4096)  # 56 x 40
    with pytest.raises(ValueError, match="above the limit of 4095"):
        glc.encode(noise, model=tiny_model, max_pixels=4095)
    for read in (glc.decode, api.info):
        with pytest.raises(glc.BitstreamError, match="56 x 40 pixels, 4096 with padding, are above the limit of 4095"):
            read(data, tiny_model, max_pixels=4095)
        for enough in (4096, 0, None):
            read(data, tiny_model, max_pixels=enough)


def test_a_picture_takes_no_more_work_than_its_file_pays_for(model, monkeypatch):
    """24 bytes that claim 33 megapixels: they are found out before a network runs."""
    monkeypatch.setattr(model.hyper, "params", None)
    forged = api.bitstream.ImageStream(model.fingerprint(), 0, 2**16, 512, bytes(12)).to_bytes()
    for read in (glc.decode, api.info):
        with pytest.raises(glc.BitstreamError, match="are asked of 12"):
            read(forged, model)
    found, preview = diagnose(forged, model)
    assert found.first_bad == "z" and preview is None


def test_sections_of_foreign_payloads_are_not_negative(tiny_model):
    """Whole files that no encoder wrote: they are shorter than what is read from them would be."""
    read = 0
    for payload in (b"\x7f", b"\xff\x00\x12", bytes(range(20)), bytes(range(60))):
        data = api.bitstream.ImageStream(tiny_model.fingerprint(), 0, 130, 70, payload).to_bytes()
        with contextlib.suppress(glc.BitstreamError):
            sections = api.info(data, tiny_model)["sections"].values()
            assert min(sections) >= 0 and sum(sections) == len(data)
            read += 1
    assert read


def test_info_accounts_for_every_byte(photo, model, file):
    facts = api.info(file)
    assert sum(facts["sections"].values()) == facts["bytes"] == len(file)
    assert facts["sections"]["header"] <= 12
    assert min(facts["sections"].values()) >= 0
    assert (facts["width"], facts["height"]) == photo.size
    assert facts["model"] == model.config["name"]


def test_another_model_is_refused_by_name(tiny_model, model, noise):
    data = glc.encode(noise, model=tiny_model)
    with pytest.raises(glc.BitstreamError, match=rf"{tiny_model.fingerprint()[:3].hex()}.*{model.config['name']!r}"):
        glc.decode(data, model=model)
    with pytest.raises(glc.BitstreamError, match="no known model"):
        glc.decode(data)


def test_known_models_are_found_by_fingerprint(tiny_folder, tiny_model, noise, monkeypatch):
    data = glc.encode(noise, model=tiny_model)
    monkeypatch.setenv("GLC_ZOO", str(tiny_folder.parent))
    assert glc.decode(data).size == (56, 40)
    assert "tiny" in zoo.list_models()


def test_damage_is_refused(file):
    for i in range(0, len(file), 97):
        damaged = file[:i] + bytes([file[i] ^ 4]) + file[i + 1 :]
        with pytest.raises(glc.BitstreamError):
            glc.decode(damaged)
    for end in (0, 1, 9, 12, len(file) // 2, len(file) - 1):
        with pytest.raises(glc.BitstreamError):
            glc.decode(file[:end])


def test_golden_videos_still_decode():
    golden = json.loads((DATA / "golden_video.json").read_text())
    assert golden
    for name, expected in golden.items():
        data = (DATA / name).read_bytes()
        head = api.videostream.parse_header(data)[0]
        assert references_hash(data) == expected
        if name.endswith("-v2.glv"):  # the smaller one of each model
            assert [frame.size for frame in glc.decode(data)] == [(head.width, head.height)] * 12


def test_golden_streams_still_decode():
    """Pictures of the right size; tests/test_exactness.py compares the latents."""
    golden = json.loads((DATA / "golden.json").read_text())
    assert golden
    for name, expected in golden.items():
        if expected["size"] != [333, 257]:  # the largest take seconds
            assert list(glc.decode(DATA / name).size) == expected["size"]


@pytest.mark.parametrize("frames, stopped", [(2, False), (2, True), (0, True)])
def test_what_is_written_of_a_video(frames, stopped):
    def chunks():
        yield from (b"header", *(b"frame" for _ in range(frames)))
        if stopped:
            raise KeyboardInterrupt
        yield b"end"

    file, told = BytesIO(), []
    if not frames:
        with pytest.raises(KeyboardInterrupt):
            api.write_video(chunks(), file)
        return
    done = api.write_video(chunks(), file, told.append)
    assert file.getvalue() == b"headerframeframe" + b"end" * (not stopped)
    assert done == api.Written(2, len(file.getvalue()), stopped) and told[:3] == [0, 1, 2]


def test_another_model_draws_what_has_its_latent(noise):
    """The same symbols, and the pictures of the other generator."""
    torch.manual_seed(0)
    video = GLCVideo(moving_config()).eval()
    video.update()
    image, artist = video.image, copy.deepcopy(video.image)
    with torch.no_grad():
        for parameter in artist.backbone.generator.parameters():
            parameter.mul_(1.5)
    file, clip = glc.encode(noise, model=image), b"".join(glc.encode_video([noise, noise[::-1]], video, fps=25))
    drawn = glc.decode(file, model=image, artist=artist).tobytes()
    assert drawn == glc.decode(glc.encode(noise, model=artist), model=artist).tobytes()
    assert drawn != glc.decode(file, model=image).tobytes()
    own, by_artist = ([frame.tobytes() for frame in glc.decode(clip, video, artist=a)] for a in (None, artist))
    assert all(a != b for a, b in zip(own, by_artist, strict=True))
    rounded = copy.deepcopy(artist).set_precision("bf16")
    assert rounded.has_latent_of(video) and video.has_latent_of(rounded)
    with torch.no_grad():
        artist.backbone.encoder.transform.weight.mul_(1.1)
    with pytest.raises(ValueError, match="cannot draw what"):
        glc.decode(file, model=image, artist=artist)
