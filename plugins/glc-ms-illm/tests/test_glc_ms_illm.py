"""The checks that the built-ins pass, and what only these promise. The network has random weights here: its own are
CC-BY-NC and have to be downloaded."""

import json
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from glc_ms_illm import codec
from PIL import Image

from glc_toolkit import BitstreamError, ModelFileError, io, registry, zoo
from glc_toolkit.conformance import smoke
from glc_toolkit.conformance.test_components import *  # noqa: F403
from glc_toolkit.evaluation.codecs import named
from glc_toolkit.training.loop import train
from glc_toolkit.training.recipe import Recipe

PLUGIN = "glc_ms_illm"
RECIPE = Path(__file__).parents[3] / "recipes" / "glc-image-0.03-ms-illm.yaml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with one checkpoint: the network small in all that can be, of random weights whose entropy model knows
    the mean and the scale of each channel, as a trained one does."""
    models = pytest.importorskip("neuralcompression.models", exc_type=ImportError)
    small = {"latent_features": 8, "hyper_features": 8, "num_residual_blocks": 1}
    place = tmp_path_factory.mktemp("ms-illm")
    (place / "small.json").write_text(json.dumps(small))
    torch.manual_seed(0)
    model = models.HiFiCAutoencoder(**small)
    x = io.to_tensor(picture(128, 128))
    with torch.no_grad():
        last = model.encoder.blocks[-1]
        last.weight.mul_(5 / model.encoder(x).std())
        latent = model.encoder(x)
        for part, value in (
            (model.hyper_synthesis_scale, latent.std((0, 2, 3))),
            (model.hyper_synthesis_mean, latent.mean((0, 2, 3))),
        ):
            part[-1].weight.zero_()
            part[-1].bias.copy_(value)
    torch.save(model.state_dict(), place / codec.FILE.format("0.07"))
    return place


@pytest.fixture(autouse=True)
def small(request, monkeypatch):
    if "folder" in request.fixturenames:
        from neuralcompression.models import HiFiCAutoencoder

        sizes = json.loads((request.getfixturevalue("folder") / "small.json").read_text())
        monkeypatch.setattr(codec, "network", lambda: HiFiCAutoencoder(**sizes))


def picture(width: int = 150, height: int = 130) -> Image.Image:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    noise = np.random.default_rng(0).normal(0, 30, (height, width, 3))
    return Image.fromarray((np.stack([x, y, 255 - x], 2) + noise).clip(0, 255).astype(np.uint8))


ELSEWHERE = """
import hashlib, json, sys
from pathlib import Path
from glc_ms_illm import codec
from neuralcompression.models import HiFiCAutoencoder
place, file = Path(sys.argv[1]), Path(sys.argv[2])
codec.network = lambda: HiFiCAutoencoder(**json.loads((place / "small.json").read_text()))
decoded = codec.family(str(place), []).codec("0.07").decode(file.read_bytes())
decoded.save(sys.argv[3])
"""


def test_bytes_decode_in_another_process_to_what_the_network_itself_makes(folder, tmp_path):
    family, settings = named(f"ms-illm:{folder}")
    assert settings == ["0.07"] and "neuralcompression 0.3.1" in family.version
    coder, original = family.codec("0.07"), picture()
    data = coder.encode(original)
    (tmp_path / "coded").write_bytes(data)
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ELSEWHERE, folder, tmp_path / "coded", tmp_path / "a.png"], check=True
    )
    with Image.open(tmp_path / "a.png") as decoded:
        assert decoded.size == original.size and decoded.tobytes() == coder.decode(data).tobytes()

    x = torch.nn.functional.pad(io.to_tensor(original), (0, -150 % 64, 0, -130 % 64), mode="replicate")
    from neuralcompression.functional import pad_image_to_factor

    torch.testing.assert_close(pad_image_to_factor(io.to_tensor(original), 64)[0], x, rtol=0, atol=1)  # of this size
    model = codec.network()
    model.load_state_dict(torch.load(folder / codec.FILE.format("0.07"), weights_only=True))
    model.eval()
    with torch.no_grad():
        own = model(pad_image_to_factor(io.to_tensor(original), 64)[0])
    golden = np.asarray(io.to_pillow(own.image[..., :130, :150])).astype(int)
    assert np.abs(golden - np.asarray(coder.decode(data))).max() <= 1
    likelihoods = (own.quantized_latent_likelihoods, own.quantized_hyper_latent_likelihoods)
    bits = sum(float(-torch.log2(part).sum()) for part in likelihoods)
    assert bits > 3000 and abs(8 * (len(data) - 8) - bits) < 0.01 * bits + 8 * 16


def test_what_is_no_checkpoint_is_refused_with_the_first_differences(folder, tmp_path):
    tensors = torch.load(folder / codec.FILE.format("0.07"), weights_only=True)
    first = next(name for name in tensors if name.startswith("decoder"))
    torch.save(
        {**{k: v for k, v in tensors.items() if k != first}, "more": torch.ones(1)}, tmp_path / codec.FILE.format("0.3")
    )
    family, _ = named(f"ms-illm:{tmp_path}:0.3")
    with pytest.raises(ModelFileError, match=rf"no checkpoint of MS-ILLM: missing \(1\): {first}; unknown \(1\): more"):
        family.codec("0.3")
    with pytest.raises(ValueError, match="ms-illm takes a folder of the published checkpoints"):
        named(f"ms-illm:{tmp_path / 'nowhere'}")
    with pytest.raises(ValueError, match=r"ms-illm has no setting 0\.9; it has 0\.07"):
        named(f"ms-illm:{folder}:0.9")
    with pytest.raises(BitstreamError):
        named(f"ms-illm:{folder}")[0].codec("0.07").decode(b"short")


def test_the_published_checkpoint_is_downloaded_once_and_whole(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(codec, "HUB", folder.as_uri() + "/")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    family, settings = named("ms-illm:hub:0.07")
    assert settings == ["0.07"] and family.version == named(f"ms-illm:{folder}")[0].version
    assert "CC-BY-NC" in capsys.readouterr().err
    assert family.codec("0.07").encode(picture()) == named(f"ms-illm:{folder}")[0].codec("0.07").encode(picture())
    named("ms-illm:hub:0.07")
    assert not capsys.readouterr().err
    for asked in ("", ":0.08"):
        with pytest.raises(ValueError, match=r"ms-illm:hub downloads 0\.7 GB for each quality: name .* 0\.035"):
            named(f"ms-illm:hub{asked}")


class Short(BaseHTTPRequestHandler):
    """Promises more than it sends."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(bytes(10))

    def log_message(self, *args):
        pass


def test_a_download_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Short) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(codec, "HUB", f"http://127.0.0.1:{server.server_port}/")
        with pytest.raises(ValueError, match=r"cannot be downloaded .*10 out of 1000 bytes.*say ms-illm:FOLDER"):
            codec.fetch("0.035")
        server.shutdown()
    assert not list((tmp_path / "hub" / "checkpoints").iterdir())


def test_the_discriminator_learns_the_codes_and_what_is_made_up():
    torch.manual_seed(0)
    loss = registry.build("loss", {"name": "labelled_gan", "args": {"codebook_size": 2, "width": 8}})
    codes = torch.randint(2, (8, 1, 4, 4))
    x = codes.float().repeat_interleave(16, 2).repeat_interleave(16, 3).expand(-1, 3, -1, -1)
    out = {"x": x, "x_hat": torch.rand(8, 3, 64, 64), "codes": codes}
    optimizer = torch.optim.Adam(loss.parameters(), 0.005)
    first = loss.discriminator_loss(out).item()
    for _ in range(60):
        optimizer.zero_grad()
        value = loss.discriminator_loss(out)
        value.backward()
        optimizer.step()
    assert value.item() < 0.3 * first
    assert loss({**out, "x_hat": x}) < loss(out) < loss({**out, "x_hat": 1 - x}) + 10
    assert (loss.logits(x).argmax(1) == codes[:, 0] + 1).float().mean() > 0.9


def test_a_recipe_trains_with_it(tmp_path):
    smoke.train(tmp_path, losses={"labelled_gan": {"weight": 0.1, "args": {"codebook_size": 64, "width": 8}}})
    last = json.loads((tmp_path / "run" / "smoke" / "log.jsonl").read_text().splitlines()[-1])
    assert {"labelled_gan", "discriminator"} < set(last)


def test_its_recipe_trains_the_generator_alone(tmp_path):
    picture().resize((192, 192)).save(tmp_path / "picture.png")
    short = ["steps=2", "batch=2", "crop=64", "gan_start=0", "losses.labelled_gan.args={codebook_size: 1024, width: 8}"]
    changes = [f"data.sources=[{tmp_path}]", "data.holdout=0", *(f"stages.0.{change}" for change in short)]
    recipe = Recipe.read(RECIPE, changes)
    began, ended = zoo.load(str(recipe.start)).state_dict(), train(recipe, tmp_path / "run").state_dict()
    moved = {name for name in began if not torch.equal(ended[name], began[name])} - {"_extra_state"}  # the config
    assert moved and all(name.startswith("backbone.generator.") for name in moved)
    assert "labelled_gan" in json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
