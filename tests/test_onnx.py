import pytest
import torch

from glc_toolkit.conformance import tiny
from glc_toolkit.models.image import GLCImage

pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")
pytest.importorskip("onnxscript", reason="the extra [onnx] is not installed")

from glc_toolkit import onnx


@pytest.mark.slow
def test_onnx_runtime_gives_the_float_path(tmp_path):
    torch.manual_seed(0)
    model = GLCImage(tiny.model_config(context={"name": "checkerboard", "args": {"depth": 1}})).eval()
    model.update()
    files = onnx.export(model, tmp_path, 70, 64)
    runtime, plain = onnx.through_runtime(model, tmp_path), model.plain()
    x = torch.rand(1, 3, 64, 70)
    names = []
    with torch.no_grad():
        pairs = zip(onnx.networks(plain, plain.pad(x)), onnx.networks(runtime, plain.pad(x)), strict=True)
        for (name, _, ours, inputs), (_, _, theirs, _) in pairs:
            names.append(name)
            torch.testing.assert_close(theirs(*inputs), ours(*inputs), rtol=1e-3, atol=1e-3, msg=f"{name} differs")
        stream = runtime.encode_payload(runtime.analysis(x), runtime.quality_code(1.25))
        x_hat = runtime.decode_payload(stream, runtime.quality_code(1.25), (64, 70))
        expected = plain(x, plain.quality_of(plain.quality_code(1.25)))["x_hat"]
    assert [file.stem for file in files] == names
    torch.testing.assert_close(x_hat, expected, rtol=1e-3, atol=1e-3)
