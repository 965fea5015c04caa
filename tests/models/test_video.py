import hashlib
import subprocess
import sys

import pytest
import torch
from torch import nn

from glc_toolkit import BitstreamError, ModelFileError, models, zoo
from glc_toolkit.components.fixed_point import STEPS
from glc_toolkit.components.layers import FixedSigmoid
from glc_toolkit.components.losses.rate import bpp_estimate
from glc_toolkit.conformance import tiny
from glc_toolkit.conformance.test_components import video_round_trip
from glc_toolkit.models import GLCVideo
from glc_toolkit.models.video import Reference


@pytest.fixture(scope="module")
def video(tiny_video_folder) -> GLCVideo:
    return zoo.load(tiny_video_folder)


def clip(frames: int, height: int = 64, width: int = 64, batch: int = 1) -> list[torch.Tensor]:
    torch.manual_seed(1)
    still = torch.rand(batch, 3, height, width)
    return [(still + 0.05 * t * torch.rand_like(still)).clamp(0, 1) for t in range(frames)]


def test_rows_of_a_batch_are_coded_one_by_one(video):
    frames = clip(3, 50, 70, batch=2)
    strings, shapes = video.compress(frames, 1.5)
    assert [len(s[0]) for s in strings] == [2, 2, 2] and shapes == [torch.Size([50, 70])] * 3
    alone, _ = video.compress([x[1:] for x in frames], 1.5)
    assert [s[0][1] for s in strings] == [s[0][0] for s in alone]
    assert all(x.shape == (2, 3, 50, 70) for x in video.decompress(strings, shapes))


def test_frames_take_turns(video):
    assert video.intra_period == 4 and video.refresh == 2
    reference = Reference(torch.rand(1, tiny.CHANNELS, 4, 4).double(), 0)
    fresh = [video.temporal_context(reference._replace(age=age))[1] for age in range(6)]
    assert fresh == [True, False, True, False, True, False]
    contexts = [video.temporal_context(reference._replace(age=age))[0] for age in range(8)]
    assert torch.equal(contexts[0], contexts[2])  # both start afresh
    assert not torch.equal(contexts[1], contexts[0])


def test_with_skip_a_latent_changes_only_near_what_is_sent():
    torch.manual_seed(0)
    video = GLCVideo({**tiny.VIDEO, "skip": True}).eval()
    video.update()
    before, context = torch.rand(1, tiny.CHANNELS, 6, 9).double(), torch.zeros(1, tiny.CHANNELS, 6, 9).double()
    y_hat, quality = torch.rand_like(context), torch.tensor([1.0])
    sent = torch.zeros(1, 1, 6, 9, dtype=torch.bool)
    assert torch.equal(video.synthesis(y_hat, sent, quality, context, before), before)
    sent[..., 0, 4] = True
    changed = (video.synthesis(y_hat, sent, quality, context, before) != before).any(1)[0]
    assert changed.nonzero().tolist() == [[i, j] for i in (0, 1) for j in (3, 4, 5)]


def test_no_value_of_a_p_frame_exceeds_the_bound():
    torch.manual_seed(0)
    free, bound = (GLCVideo({**tiny.VIDEO, **more}).eval() for more in ({}, {"bound": 2}))
    bound.load_state_dict(free.state_dict())
    for video in (free, bound):
        video.update()
    context = torch.zeros(1, tiny.CHANNELS, 6, 9).double()
    y_hat, quality, sent = 50 * torch.randn_like(context), torch.tensor([1.0]), torch.ones(1, 1, 6, 9).bool()
    unbound, l_hat = (video.synthesis(y_hat, sent, quality, context, context) for video in (free, bound))
    assert unbound.abs().max() > 2 and torch.equal(l_hat, unbound.clamp(-2, 2))


@pytest.mark.parametrize("bound", [0, -1, 2.5, "wide"])
def test_a_bound_is_a_whole_number(bound):
    with pytest.raises(ValueError, match="bound is a whole number above zero"):
        GLCVideo({**tiny.VIDEO, "bound": bound})


def test_keyframes_and_inter_frames_as_in_compressai(video):
    first, second = clip(2)
    reference, key = video.encode_keyframe(first, 1.0)
    after, inter = video.encode_inter(second, reference, 1.0)
    decoded = video.decode_keyframe(key["strings"], key["shape"])
    assert torch.equal(decoded.l_hat, reference.l_hat) and decoded.age == 0
    again = video.decode_inter(decoded, inter["strings"], inter["shape"])
    assert torch.equal(again.l_hat, after.l_hat) and again.age == 1
    assert video.reconstruct(again, inter["shape"]).shape == second.shape
    with pytest.raises(BitstreamError, match="a string is empty"):
        video.decode_inter(decoded, [[b""]], inter["shape"])


def test_no_drift_over_200_frames_in_another_process_with_another_number_of_threads(video, tiny_video_folder, tmp_path):
    """The last latent has seen all symbols before it: one different bit anywhere would be in it."""
    reference, payloads = None, []
    for t in range(201):
        x = clip(1)[0].roll(t, -1)
        reference, payload = video.encode_payload(video.frame_analysis(x, reference), 100, reference)
        payloads.append(payload)
    (tmp_path / "frames").write_bytes(b"".join(len(p).to_bytes(2, "big") + p for p in payloads))
    program = f"""
import hashlib, torch
from glc_toolkit import zoo
torch.set_num_threads(2)
torch.backends.mkldnn.enabled = False
model = zoo.load({str(tiny_video_folder)!r})
data, reference = open({str(tmp_path / "frames")!r}, "rb").read(), None
while data:
    size = int.from_bytes(data[:2], "big")
    reference = model.decode_payload(data[2 : 2 + size], 100, (64, 64), reference)
    data = data[2 + size :]
print(hashlib.sha256(reference.l_hat.numpy().tobytes()).hexdigest())
"""
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout.split() == [hashlib.sha256(reference.l_hat.numpy().tobytes()).hexdigest()]


def test_estimate_is_the_size(video):
    frames = clip(4, 128, 128)
    strings, _ = video.compress(frames, 1.0)
    with torch.no_grad():
        out = video(frames, 1.0)
    for string, likelihoods in zip(strings, out["likelihoods"], strict=True):
        estimate = bpp_estimate(likelihoods, 8).item()  # in bytes
        assert abs(len(string[0][0]) - estimate) < 0.01 * estimate + 16


def test_training_step_reaches_every_parameter():
    torch.manual_seed(0)
    model = models.build(tiny.VIDEO).train()
    out = model(clip(4, batch=2), torch.tensor([0.0, 1.5]))
    rate = sum(bpp_estimate(likelihoods, 64 * 64).sum() for likelihoods in out["likelihoods"])
    (sum(x.mean() for x in out["x_hat"]) + rate + sum(out["hyper_loss"])).backward()
    without = {n for n, p in model.named_parameters() if p.grad is None and p.numel() and "backbone.quantizer" not in n}
    unused = {f"temporal.adaptors.{k}.{n}" for k in (1, 2) for n in ("weight", "bias")}  # frames 4 and 6 would
    assert without - unused == set()


def test_a_backbone_of_its_own_is_coded_with_and_saved(tmp_path):
    torch.manual_seed(0)
    model = models.build({**tiny.VIDEO, "backbone": tiny.MODEL["backbone"]})
    assert model.backbone is not model.image.backbone
    zoo.save(model, tmp_path / "own", "own")
    loaded = zoo.load(tmp_path / "own")
    strings, shapes = loaded.compress(clip(2))
    assert len(loaded.decompress(strings, shapes)) == 2


@pytest.mark.parametrize(
    "change, message",
    [
        ({"hyper": None}, "a hyper is configured as"),
        ({"temporal": {"name": "none"}}, "no temporal named"),
        ({"channels": 18}, "18 channels cannot be shared by 4 heads"),
        ({"transform": {"name": "gated"}}, "takes no temporal context"),
        ({"model": "sound"}, "image or video, not 'sound'"),
        ({"refresh": 0}, "refresh are at least 1"),
        ({"cycle": []}, "cycle names an adaptor"),
        ({"intra_perod": 9}, "unknown keys: intra_perod"),
    ],
)
def test_configs_that_make_no_model(change, message):
    with pytest.raises(ValueError, match=message):
        models.build({**tiny.VIDEO, **change})


def test_a_missing_image_model_is_named():
    with pytest.raises(ValueError, match="lacks image"):
        models.build({key: value for key, value in tiny.VIDEO.items() if key != "image"})


def test_a_video_file_that_lacks_a_tensor_is_refused(tiny_video_folder, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(tiny_video_folder / zoo.WEIGHTS, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys() if not key.startswith("image.hyper.h_s.0")}
        metadata = file.metadata()
    save_file(tensors, tmp_path / zoo.WEIGHTS, metadata)
    (tmp_path / zoo.CONFIG).write_text((tiny_video_folder / zoo.CONFIG).read_text())
    zoo.write_sums(tmp_path)
    with pytest.raises(ModelFileError, match=r"image\.hyper\.h_s\.0"):
        zoo.load(tmp_path)


def test_fixed_sigmoid():
    sigmoid = FixedSigmoid().double()
    x = torch.linspace(-20, 20, 100_001, dtype=torch.float64)
    y = sigmoid(x)
    assert (y - torch.sigmoid(x)).abs().max() < 3e-5
    assert torch.equal(y * STEPS, (y * STEPS).round())
    assert (y.diff() >= 0).all()
    assert torch.equal(sigmoid(x.float()), torch.sigmoid(x.float()))


def test_a_context_without_weights(plugin):
    class Before(nn.Module):
        def forward(self, l_hat, adaptor):
            return l_hat

    plugin("baseline", glc_temporals=lambda: {"before": Before})
    video_round_trip({**tiny.VIDEO, "temporal": {"name": "before"}})


@pytest.mark.parametrize("precision", ["bf16", "auto"])
def test_the_image_model_of_a_rounded_one_keeps_its_name(tiny_video_folder, precision):
    model = zoo.load(tiny_video_folder)
    expected = model.fingerprint(), model.image.fingerprint()
    model.set_precision(precision)
    assert (model.fingerprint(), model.image.fingerprint()) == expected
