"""A zoo model does what CompressAI's users are used to."""

import copy

import pytest
import torch
from compressai.losses import RateDistortionLoss
from compressai.optimizers import net_aux_optimizer
from compressai.zoo import image_models, models

from glc_toolkit import zoo
from glc_toolkit.conformance import tiny
from glc_toolkit.models.image import GLCImage
from glc_toolkit.models.video import GLCVideo


@pytest.fixture
def x() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(2, 3, 64, 96)


def test_the_training_loop_of_its_example(model, x, tmp_path):
    """One step of the main and of the auxiliary optimizer, a test epoch, a checkpoint, and files."""
    net, criterion = copy.deepcopy(model), RateDistortionLoss(lmbda=0.01)
    adam = {"type": "Adam", "lr": 1e-4}
    optimizers = net_aux_optimizer(net, {"net": adam, "aux": adam})
    before = [parameter.detach().clone() for parameter in net.parameters()]
    net.train()
    losses = criterion(net(x), x)
    losses["loss"].backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizers["net"].step()
    aux_loss = net.aux_loss()
    aux_loss.backward()
    optimizers["aux"].step()
    assert aux_loss.item() == 0 and torch.isfinite(losses["loss"])
    assert sum(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True)) > 100

    net.eval()
    with torch.no_grad():
        assert criterion(net(x), x)["loss"] > 0 and net.aux_loss().item() == 0
    state = {"state_dict": net.state_dict(), "aux_optimizer": optimizers["aux"].state_dict()}
    torch.save(state, tmp_path / "checkpoint.pth.tar")
    loaded = torch.load(tmp_path / "checkpoint.pth.tar", weights_only=True)
    optimizers["aux"].load_state_dict(loaded["aux_optimizer"])
    again = GLCImage.from_state_dict(loaded["state_dict"]).eval()
    with pytest.raises(RuntimeError, match="call update"):
        net.compress(x)
    for trained in (net, again):
        trained.update(force=True)
    packed = net.compress(x)
    assert torch.equal(*(m.decompress(packed["strings"], packed["shape"])["x_hat"] for m in (net, again)))


def test_names_of_a_wrapper_and_assignment(tiny_model, x):
    wrapped = torch.nn.DataParallel(tiny_model).state_dict()
    assert all(name.startswith("module.") for name in wrapped)
    expected = tiny_model.compress(x)["strings"]
    other = GLCImage(tiny_model.config).eval()
    other.load_state_dict({**tiny_model.state_dict()}, assign=True)
    for model in (GLCImage.from_state_dict(wrapped).eval(), other):
        assert model.compress(x)["strings"] == expected
        assert model.fingerprint() == tiny_model.fingerprint()
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({"module.nothing": torch.zeros(1)})


def test_back_from_training_without_a_step(tiny_model, x):
    model = copy.deepcopy(tiny_model)
    expected = model.compress(x)["strings"]
    assert model.train().eval().compress(x)["strings"] == expected
    model.train()(x)
    assert model.eval().compress(x)["strings"] == expected
    with torch.no_grad():
        model.train().hyper.entropy_model.logits[0, :5] += 1.0
    model(x)
    with pytest.raises(RuntimeError, match="call update"):
        model.eval().compress(x)
    assert model.update() and model.compress(x)["strings"] != expected


def test_names_in_its_zoo(tiny_folder, monkeypatch):
    monkeypatch.setenv("GLC_ZOO", str(tiny_folder.parent))
    zoo.register_with_compressai()
    try:
        assert models["tiny"] is image_models["tiny"]
        assert models["tiny"](quality=3).default_quality == 2
    finally:
        del models["tiny"], image_models["tiny"]


def test_pretrained(tiny_model, tiny_folder, tmp_path, monkeypatch):
    loaded = GLCImage.from_pretrained(tiny_folder)
    assert loaded.fingerprint() == tiny_model.fingerprint() and not loaded.training
    loaded.save_pretrained(tmp_path / "mine", card="# mine\n\nA card.\n")
    assert GLCImage.from_pretrained(tmp_path / "mine").fingerprint() == tiny_model.fingerprint()
    assert "A card." in (tmp_path / "mine" / zoo.CARD).read_text()
    with pytest.raises(ValueError, match="is a GLCImage, not a GLCVideo"):
        GLCVideo.from_pretrained(tiny_folder)
    asked = []
    monkeypatch.setattr(zoo, "load", lambda name, device, precision: asked.append(name) or tiny_model)
    GLCImage.from_pretrained("owner/name", revision="v1")
    GLCImage.from_pretrained("owner/name")
    assert asked == ["hf://owner/name@v1", "hf://owner/name"]


def test_the_forward_pass_is_one_graph(x):
    parts = {"transform": {"name": "plain"}, "context": {"name": "checkerboard", "args": {"depth": 1}}}  # few to trace
    model = GLCImage(tiny.model_config(**parts)).eval()
    model.update()
    with torch.no_grad():
        expected, out = model(x), torch.compile(model, fullgraph=True, backend="eager")(x)
    assert torch.equal(out["x_hat"], expected["x_hat"])
    assert torch.equal(out["likelihoods"]["y"], expected["likelihoods"]["y"])
