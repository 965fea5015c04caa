"""What a weights file can have wrong, and that reading it says so: anybody may have made it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from glc_toolkit import ModelFileError, registry, weights, zoo
from glc_toolkit.components.transforms.latent import GatedTransform
from glc_toolkit.conformance import tiny
from glc_toolkit.models.image import GLCImage

Y, Z = "entropy_model.", "hyper.entropy_model."  # the entropy models of y and of z
ENCODER = "backbone.encoder.quant_conv.weight"  # stored in 8 bits
DECODER = "transform.q_dec.weight"


@pytest.fixture
def file(tiny_folder, tmp_path) -> Path:
    """A copy of the tiny model's weights that a test may break."""
    return Path(shutil.copy(tiny_folder / zoo.WEIGHTS, tmp_path))


def rewrite(path: Path, change) -> None:
    """Apply ``change(tensors, facts)`` to a weights file."""
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()[weights.FACTS])
    tensors = load_file(path)
    change(tensors, facts)
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, {weights.FACTS: json.dumps(facts)})


def config(slot=None, **args):
    """Another value in the config, at its top or in the arguments of a slot."""
    return lambda tensors, facts: (facts["config"][slot].setdefault("args", {}) if slot else facts["config"]).update(
        args
    )


def component(slot, name, **args):
    return lambda tensors, facts: facts["config"].update({slot: {"name": name, "args": args}})


def quantizer(name, **args):
    return config("hyper", quantizer={"name": name, "args": args})


def tensor(name, change):
    """Another tensor in the place of one that is there."""
    return lambda tensors, facts: tensors.update({name: change(tensors[name].clone())})


def new(name, value):
    return lambda tensors, facts: tensors.update({name: value})


def lost(name):
    return lambda tensors, facts: tensors.pop(name)


def metadata(**values):
    return lambda tensors, facts: facts.update(values)


def nan(value):
    return value.fill_(float("nan"))


def not_rising(cdf):
    cdf[0, 3] = cdf[0, 2]
    return cdf


def wrapping(cdf):
    """Rises by int32 differences alone."""
    cdf[0, 1:3] = torch.tensor([2**31 - 1, -2])
    return cdf


def short(cdf):
    cdf[:, -1] -= 1
    return cdf


def fewer_rows(tensors, facts):
    for name in ("_quantized_cdf", "_offset", "_cdf_length"):
        tensors[Y + name] = tensors[Y + name][:-1]


def fewer_symbols(tensors, facts):
    cdf = tensors[Z + "_quantized_cdf"]
    tensors[Z + "_quantized_cdf"] = torch.cat([cdf[:, :-2], cdf[:, -1:]], 1)
    tensors[Z + "_cdf_length"] -= 1


MANY = 4_000_000  # about as many as the tiny model's budget
TABLES = f"the coding tables of {Y[:-1]} "
HUGE = "asks for far more than the tensors that are stored"
BREAKAGES = {
    "a format of the future": (metadata(format="other"), "has format 'other'"),
    "no config": (metadata(config=None), "lacks config"),
    "a fingerprint that is none": (metadata(fingerprint=7), "lacks fingerprint"),
    "a plugin that is not there": (metadata(requires=["absent"]), "plugins that are not installed: absent"),
    "a plugin without a name": (metadata(requires=[1]), r"requires \[1\], which are not all names"),
    "the fingerprint of other weights": (metadata(fingerprint="0" * 64), f"promise the fingerprint {'0' * 64}"),
    "weights of another fingerprint": (tensor(DECODER, lambda t: t + 1), "promise the fingerprint"),
    "a component that is not there": (component("context", "nowhere"), "no context named 'nowhere'"),
    "negative channels": (config(channels=-1), "holds no sound model"),
    "no channels": (config(channels=0), "holds no sound model"),
    "channels in words": (config(channels="many"), "holds no sound model"),
    "no levels of the backbone": (config("backbone", multipliers=[]), "holds no sound model"),
    "an infinite width": (config("backbone", multipliers=[float("inf")]), "holds no sound model"),
    "a codebook that is no power of two": (quantizer("lfq", codebook_size=100), "power of 2"),
    "a quality beyond the levels": (config(default_quality=9.0), "quality has to be between"),
    "a context of another width": (component("context", "four_part", channels=8), "holds no sound model"),
    "a billion channels": (config(channels=10**9), HUGE),
    "a billion quantizers": (quantizer("residual_vq", num_quantizers=10**9), HUGE),
    "a negative billion of levels": (config("backbone", multipliers=[1, -1e9]), HUGE),
    "too many channels": (config(channels=MANY), HUGE),
    "too many gains": (config("transform", blocks=0, channels=MANY), HUGE),
    "too many codes": (quantizer("nearest", codebook_size=MANY), HUGE),
    "too many codes on a grid": (quantizer("fsq", levels=[MANY]), HUGE),
    "too many densities": (component("entropy_model", "factorized", channels=MANY), HUGE),
    "too many blocks": (config("context", depth=MANY), HUGE),
    "too many blocks of no width": (config("backbone", multipliers=[0], encoder_blocks=MANY), HUGE),
    "too many blocks on one grid": (config("backbone", multipliers=[0, 1], encoder_blocks=[1, MANY]), HUGE),
    "half a block": (config("backbone", encoder_blocks=[1.5, 1, 1]), "holds no sound model"),
    "too many symbols": (config("entropy_model", max_symbol=MANY), TABLES + "are not 64 of 8000001 symbols"),
    "another shape": (tensor(DECODER, lambda t: t[:1]), "size mismatch for transform.q_dec.weight"),
    "a tensor missing": (lost(DECODER), "Missing key.*transform.q_dec.weight"),
    "a tensor too many": (new("extra", torch.ones(1)), "Unexpected key.*extra"),
    "NaN in weights": (tensor(DECODER, nan), f"not finite: {DECODER}"),
    "NaN in a buffer": (tensor(Y + "scale_table", nan), f"not finite: {Y}scale_table"),
    "NaN in a scale": (tensor(ENCODER + weights.SCALE, nan), f"not finite: {ENCODER}"),
    "a scale too wide": (tensor(ENCODER + weights.SCALE, lambda t: t.repeat(2, 1, 1, 1)), "::scale has shape"),
    "a scale without dimensions": (tensor(ENCODER + weights.SCALE, lambda t: t.sum()), "::scale has shape"),
    "a scale for nothing": (new("extra" + weights.SCALE, torch.ones(1)), "is the scale of a tensor that"),
    "no scale": (lost(ENCODER + weights.SCALE), "is of torch.int8, not torch.float32"),
    "complex weights": (tensor(DECODER, lambda t: t.to(torch.complex64)), "is of torch.complex64"),
    "sums that are not exact": (tensor("context.reduction.weight", lambda t: t + 1e4), "are exact"),
    "a table that does not rise": (tensor(Y + "_quantized_cdf", not_rising), TABLES + "do not rise"),
    "a table that rises by overflow": (tensor(Y + "_quantized_cdf", wrapping), TABLES + "do not rise"),
    "a table that ends early": (tensor(Y + "_quantized_cdf", short), TABLES + "do not rise"),
    "a table of floats": (tensor(Y + "_quantized_cdf", torch.Tensor.float), "is of torch.float32, not torch.int32"),
    "a table without rows": (tensor(Y + "_quantized_cdf", lambda t: t[0]), TABLES + "have shapes"),
    "fewer rows in a table": (tensor(Y + "_quantized_cdf", lambda t: t[:-1]), TABLES + "have shapes"),
    "fewer rows in all tables": (fewer_rows, TABLES + "are not 64 of 255 symbols from -127"),
    "fewer symbols than codes": (fewer_symbols, "are not 1 of 64 symbols from 0"),
    "another first symbol": (tensor(Y + "_offset", lambda t: t + 1), TABLES + "are not 64 of 255"),
    "another length": (tensor(Y + "_cdf_length", lambda t: t + 1), TABLES + "are not 64 of 255"),
    "empty tables": (tensor(Y + "_quantized_cdf", lambda t: t[0, :0]), TABLES + "have shapes"),
}


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("fault", BREAKAGES)
def test_a_bad_file_is_refused_with_what_and_where(file, fault):
    change, message = BREAKAGES[fault]
    rewrite(file, change)
    with pytest.raises(ModelFileError, match=message) as error:
        weights.read(file)
    assert str(error.value).startswith(str(file)) and "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["[" * 100_000, "nonsense", "7", "null"])
def test_metadata_that_are_none_are_refused(file, text):
    save_file({"weight": torch.ones(2)}, file, {weights.FACTS: text})
    with pytest.raises(ModelFileError, match=r"cannot be read|holds no glc-toolkit model"):
        weights.read(file)


@pytest.mark.parametrize("end", [0, 7, 1000, -1])
def test_a_cut_file_is_refused(file, end):
    file.write_bytes(file.read_bytes()[:end])
    with pytest.raises(ModelFileError, match="cannot be read"):
        weights.read(file)


@pytest.mark.parametrize("name", registry.names("quantizer"))
def test_every_quantizer_is_written_and_read(tmp_path, name):
    hyper = {"name": "spatial_categorical", "args": {"quantizer": tiny.config("quantizer", name)}}
    model = GLCImage(tiny.model_config(hyper=hyper)).eval()
    weights.write(model, tmp_path / "file")
    assert weights.read(tmp_path / "file").fingerprint() == model.fingerprint()


def test_a_model_with_the_factorized_hyper_module_is_written_and_read(tmp_path):
    model = GLCImage(tiny.model_config(hyper={"name": "factorized"})).eval()
    weights.write(model, tmp_path / "file")
    assert weights.read(tmp_path / "file").fingerprint() == model.fingerprint()


def test_parts_that_do_not_fit_together_are_refused(tmp_path):
    narrow = {"name": "four_part", "args": {"channels": tiny.CHANNELS // 2}}
    weights.write(GLCImage(tiny.model_config(context=narrow)).eval(), tmp_path / "file")
    with pytest.raises(ModelFileError, match="holds no sound model"):
        weights.read(tmp_path / "file")


def test_what_does_not_fit_float16_is_not_written(tmp_path):
    model = GLCImage(tiny.MODEL).eval()
    model.transform.q_dec.weight.data.fill_(1e6)
    with pytest.raises(ValueError, match=f"not finite: {DECODER}"):
        weights.write(model, tmp_path / "file")


@pytest.mark.parametrize(
    "make",
    [
        lambda n: torch.zeros(n),
        lambda n: torch.Tensor(n),
        lambda n: torch.arange(n),
        lambda n: torch.arange(n, 0, -1),
        lambda n: torch.arange(0.0, n / 10, 0.1),
        lambda n: torch.linspace(0, 1, n),
        lambda n: torch.ones(1).repeat(n),
        lambda n: torch.nn.Linear(1, n),
        lambda n: [torch.ones(0) for _ in range(n)],
    ],
)
def test_a_budget_of_tensors(make):
    with weights.Budget(10_000):
        make(3)
    with weights.Budget(10_000), pytest.raises(ValueError, match="far more"):
        make(10_001)


def test_tied_weights_are_saved_under_both_names(plugin, tmp_path):
    class Tied(GatedTransform):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.q_dec.weight = self.q_enc.weight

    plugin("tying", glc_transforms=lambda: {"tied": Tied})
    for exact in (False, True):
        model = GLCImage(tiny.model_config(transform={"name": "tied"}))
        loaded = zoo.load(zoo.save(model, tmp_path / f"{exact}", "tied", exact=exact))
        assert loaded.transform.q_dec.weight is loaded.transform.q_enc.weight


def test_what_cannot_be_loaded_is_not_saved(tmp_path, tiny_model, monkeypatch):
    folder = zoo.save(tiny_model, tmp_path / "it", "it")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(weights, "Budget", lambda elements: weights.TorchDispatchMode())
    monkeypatch.setattr(weights, "numbers", lambda config: [10**12])
    with pytest.raises(ModelFileError, match="far more"):
        zoo.save(tiny_model, folder, "it")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
