import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from glc_toolkit.io import PictureError
from glc_toolkit.training.data import ClipCrops, Crops, decode, find_pictures, split


def test_samples_are_functions_of_their_number(pictures):
    found = find_pictures([str(pictures)])
    first, second = (Crops(found, 64, (0.5, 1.0), levels=3, seed=5) for _ in range(2))
    for i in (0, 7, 10**9):
        assert torch.equal(first[i][0], second[i][0]) and first[i][1] == second[i][1]
        assert first[i][0].shape == (3, 64, 64) and 0 <= first[i][1] <= 2
    assert not torch.equal(first[0][0], first[1][0])


def test_crops_are_turned_by_quarters(pictures):
    found = find_pictures([str(pictures)])
    plain, turned = (Crops(found, 64, (0.5, 1.0), 3, seed=5, turns=turns) for turns in (False, True))
    seen = set()
    for i in range(20):
        crop = plain[i][0]
        seen |= {k for k in range(4) if torch.equal(turned[i][0], crop.rot90(k, (-2, -1)))}
    assert seen == {0, 1, 2, 3}


def test_held_out_pictures_are_not_trained_on(pictures):
    kept, held_out = split(find_pictures([str(pictures)]), 3)
    assert [name for name, _ in held_out] == ["2.png", "5.png"]
    assert len(kept) == 4 and not set(kept) & set(held_out)


def test_pictures_are_found_in_folders_and_shards(pictures, tmp_path):
    (pictures / "deeper").mkdir()
    (pictures / "0.png").rename(pictures / "deeper" / "0.PNG")
    (pictures / "._1.png").write_bytes(b"what a Mac leaves beside a picture")
    (pictures / "list.txt").write_text("1.png")
    names = ["1.png", "2.png", "3.png", "4.png", "5.png", "deeper/0.PNG"]
    assert [name for name, _ in find_pictures([str(pictures)])] == names
    with tarfile.open(tmp_path / "shard.tar", "w") as shard:
        shard.add(pictures, "")
    found = find_pictures([str(tmp_path / "shard.tar")])
    assert [name for name, _ in found] == names
    assert torch.equal(decode(*found[0]), decode("1.png", pictures / "1.png"))
    with pytest.raises(FileNotFoundError, match="neither a folder nor a tar"):
        find_pictures(["no/such/place"])


def test_a_picture_is_trained_on_as_the_codec_sees_it(tmp_path):
    grey = np.array([[0, 257, 65535]], np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert decode("grey.png", tmp_path / "grey.png")[:, 0].tolist() == [[0, 1, 255]] * 3
    clear = np.array([[[255, 0, 0, 0], [255, 0, 0, 255]]], np.uint8)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert decode("clear.png", tmp_path / "clear.png")[:, 0].T.tolist() == [[255, 255, 255], [255, 0, 0]]


def test_a_damaged_picture_is_named(pictures, tmp_path):
    whole = (pictures / "3.png").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"no picture"):
        with pytest.raises(PictureError, match=r"training picture shard/3\.png"):
            decode("shard/3.png", damaged)
    (pictures / "3.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PictureError, match=r"training picture 3\.png"):
        Crops(find_pictures([str(pictures)]), 64, (0.5, 1.0), levels=3, seed=5)


def test_nothing_to_train_on_is_said(pictures):
    kept, _ = split(find_pictures([str(pictures)]), 1)
    with pytest.raises(ValueError, match="no pictures to train on"):
        Crops(kept, 64, (0.5, 1.0), levels=3, seed=5)
    with pytest.raises(ValueError, match="neither clips nor pictures"):
        ClipCrops([], kept, 1.0, 3, 64, (0.5, 1.0), levels=3, seed=5)
