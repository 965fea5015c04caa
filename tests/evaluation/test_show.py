import matplotlib
import numpy as np
import pytest

import glc_toolkit as glc

matplotlib.use("Agg")


@pytest.fixture
def pyplot():
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def test_a_stream_brings_its_model_and_quality(photo, model, tmp_path, pyplot):
    picture = photo.crop((0, 0, 128, 80))
    data = glc.encode(picture, model=model, quality=2)
    (tmp_path / "a.glc").write_bytes(data)
    for coded in (data, tmp_path / "a.glc"):
        axes = glc.show(picture, coded)
        assert [a.get_title().partition(" ")[0] for a in axes] == ["original", str(len(data)), "bits"]
        assert np.array_equal(axes[1].images[0].get_array(), np.asarray(glc.decode(data)))
        axes[0].figure.canvas.draw()


def test_a_picture_alone_is_compressed_and_a_reconstruction_alone_has_no_map(photo, model, pyplot):
    picture = photo.crop((0, 0, 64, 64))
    assert len(glc.show(picture, model=model, quality=0)) == 3
    assert len(glc.show(picture, picture)) == 2
    assert len(glc.show(picture, picture, model=model)) == 3


def test_sizes_have_to_agree(photo, pyplot):
    with pytest.raises(ValueError, match="64 x 64 pixels and the reconstruction 64 x 32"):
        glc.show(photo.crop((0, 0, 64, 64)), photo.crop((0, 0, 64, 32)))
