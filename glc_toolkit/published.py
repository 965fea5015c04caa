"""The published models: their configs, and the place of each of our tensors in the published files.

``glc-image-paper`` and ``glc-video-paper`` are the models of the GLC authors. ``vqgan-f16-16384`` is the VQGAN of
taming-transformers, which has the same layers as their backbone. The configs :data:`GLC_IMAGE` and :data:`GLC_VIDEO`
are made of registry components alone.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from glc_toolkit import models, registry, zoo
from glc_toolkit.models import GLCModel, GLCVideo
from glc_toolkit.types import ModelFileError

CODEBOOK = {"name": "nearest", "args": {"codebook_size": 16384}}
VQGAN = {
    "name": "vqgan",
    "args": {
        "channels": 128,
        "multipliers": [1, 1, 2, 2, 4],
        "encoder_blocks": 2,
        "decoder_blocks": 3,
        "attention": True,
        "latent_channels": 256,
        "norm": "group",
        "quantizer": CODEBOOK,
    },
}
CODE_PREDICTION = {
    "name": "code_prediction",
    "args": {"latent_channels": 256, "codebook_size": 16384, "positions": 16, "width": 512, "depth": 9, "heads": 8},
}
GLC_IMAGE = {
    "model": "image",
    "channels": 256,
    "levels": 4,
    "default_quality": 1.0,  # about 0.03 bits a pixel
    "backbone": VQGAN,
    "transform": {"name": "gated"},
    "hyper": {
        "name": "spatial_categorical",
        "args": {"quantizer": CODEBOOK, "entropy_model": {"name": "categorical", "args": {"learned": False}}},
    },
    "context": {"name": "four_part", "args": {"depth": 3}},
    "entropy_model": {"name": "gaussian", "args": {"skip": False}},
}
GLC_VIDEO = {
    "model": "video",
    "channels": 256,
    "levels": 64,
    "default_quality": 21.0,  # the level of the image model's 1
    "image": GLC_IMAGE,
    "backbone": VQGAN,
    "temporal": {"name": "latent_context"},
    "transform": {"name": "conditional"},
    "hyper": {
        "name": "spatio_temporal_categorical",
        "args": {"quantizer": CODEBOOK, "entropy_model": {"name": "categorical", "args": {"learned": False}}},
    },
    "context": {"name": "dual_checkerboard"},
    "entropy_model": {"name": "gaussian", "args": {"skip": False}},
}


# -- names ------------------------------------------------------------------------------------------------------

AUTHORS = {  # {the start of our name: the start of theirs}; the first that fits counts
    "backbone.generator.head.0.": "vqgan.generator.blocks.28.",
    "backbone.quantizer.": "vqgan.quantize.",
    "backbone.": "vqgan.",
    "transform.q_enc.weight": "q_enc",
    "transform.q_dec.weight": "q_dec",
    "transform.enc_": "enc.enc_",
    "transform.dec_": "dec.dec_",
    "hyper.h_a.": "hyper_enc.",
    "hyper.quantizer.": "z_vq.",
    "hyper.h_s.3.": "y_prior_fusion.0.",
    "hyper.h_s.4.": "y_prior_fusion.1.",
    "hyper.h_s.": "hyper_dec.",
    "context.reduction.": "y_spatial_prior_reduction.",
    "context.adaptors.0.": "y_spatial_prior_adaptor_1.",
    "context.adaptors.1.": "y_spatial_prior_adaptor_2.",
    "context.adaptors.2.": "y_spatial_prior_adaptor_3.",
    "context.prior.": "y_spatial_prior.",
}
AUTHORS_BLOCKS = (  # inside the blocks of the latent codec
    (r"\.(\d)\.([01])\.", r".\1.block.\2."),
    (r"block\.0\.conv1\.", r"block.0.conv1.0."),
    (r"^(transform\..*)\.depth_conv\.", r"\1.conv1.2."),
    (r"\.(subpel_conv|upsample)\.", r".\1.0."),
)
VIDEO = {  # the same for the tensors of a video model outside its image model
    "own_backbone.generator.head.0.": "vqgan.generator.blocks.28.",
    "own_backbone.quantizer.": "vqgan.quantize.",
    "own_backbone.": "vqgan.",
    "transform.q_enc.weight": "y_q_enc",
    "transform.q_dec.weight": "y_q_dec",
    "transform.enc_": "encoder.enc_",
    "transform.dec_": "decoder.dec_",
    "temporal.fresh.": "feature_adaptor_I.",
    "temporal.adaptors.": "feature_adaptor.",
    "temporal.extractor.": "feature_extractor.context_refine.",
    "hyper.temporal_prior.": "temporal_prior_encoder.",
    "hyper.weights.": "weight_generator.conv.",
    "hyper.condition.": "temporal_cond.",
    "hyper.combine.": "y_temporal_combine.conv.",
    "hyper.guide.": "hyper_tokenizer.prior_extraction.",
    "hyper.enhancement.": "hyper_tokenizer.enhancement.",
    "hyper.features.": "hyper_tokenizer.proj.",
    "hyper.out.": "hyper_tokenizer.out_proj.",
    "hyper.values.": "hyper_inv_tokenizer.proj.",
    "hyper.spread.": "hyper_inv_tokenizer.out_proj.",
    "hyper.adaptors.0.0.": "prior_fusion_adaptor_0.conv1.",
    "hyper.adaptors.0.1.": "prior_fusion_adaptor_0.conv2.",
    "hyper.adaptors.1.0.": "prior_fusion_adaptor_1.conv1.",
    "hyper.adaptors.1.1.": "prior_fusion_adaptor_1.conv2.",
    "hyper.fusion.": "y_prior_fusion.conv.",
    "hyper.quantizer.": "z_vq.",
    "context.prior.": "y_spatial_prior.conv.",
}
VIDEO_BLOCKS = r"\.([01])\.(conv1|depth_conv|conv2|adaptor|conv|conv_out)\.(weight|bias)$"
PREDICTORS = ("code_pred_loss", "code_pred_pix_loss")  # the names of the authors; the tensors inside have our names


def authors_name(name: str) -> str:
    """The name in the authors' file of one of our tensors."""
    if not name.startswith("backbone."):
        for pattern, replacement in AUTHORS_BLOCKS:
            name = re.sub(pattern, replacement, name)
    return _renamed(name, AUTHORS)


def authors_video_name(name: str) -> str:
    """The name in the authors' file of a tensor of our video model outside its image model."""
    if not name.startswith("own_backbone."):
        name = re.sub(VIDEO_BLOCKS, r".block.\1.\2.\3", name).replace(".block.0.conv1.", ".block.0.conv1.0.")
    return _renamed(name, VIDEO)


def _taming() -> dict[str, str]:
    """Like :data:`AUTHORS`: taming's blocks have names, ours are numbered in the order that they run in."""
    size = VQGAN["args"]
    levels = range(len(size["multipliers"]))
    middle = ["mid.block_1", "mid.attn_1", "mid.block_2"]
    encoder, decoder = ["conv_in"], ["conv_in", *middle]
    for i in levels:
        for j in range(size["encoder_blocks"]):
            encoder += [f"down.{i}.block.{j}"] + [f"down.{i}.attn.{j}"] * (i == levels[-1])
        encoder += [f"down.{i}.downsample"] * (i < levels[-1])
    for i in reversed(levels):
        for j in range(size["decoder_blocks"]):
            decoder += [f"up.{i}.block.{j}"] + [f"up.{i}.attn.{j}"] * (i == levels[-1])
        decoder += [f"up.{i}.upsample"] * (i > 0)
    encoder += [*middle, "norm_out", "swish", "conv_out"]
    decoder += ["norm_out"]
    return {
        **{f"backbone.encoder.blocks.{i}.": f"encoder.{name}." for i, name in enumerate(encoder)},
        **{f"backbone.generator.blocks.{i}.": f"decoder.{name}." for i, name in enumerate(decoder)},
        "backbone.generator.head.0.": "decoder.conv_out.",
        "backbone.encoder.quant_conv.": "quant_conv.",
        "backbone.generator.post_quant_conv.": "post_quant_conv.",
        "backbone.quantizer.": "quantize.",
    }


TAMING = _taming()


def taming_name(name: str) -> str:
    """Where a tensor of our backbone is in a checkpoint of taming-transformers."""
    return _renamed(re.sub(r"(blocks\.\d+)\.conv_out\.", r"\1.nin_shortcut.", name), TAMING)


def _renamed(name: str, starts: dict[str, str]) -> str:
    start = next(start for start in starts if name.startswith(start))
    return starts[start] + name.removeprefix(start)


# -- files ------------------------------------------------------------------------------------------------------


class Checkpoint(NamedTuple):
    """A kind of published file."""

    config: dict
    name: Callable[[str], str]  #: of a tensor of ours in the file
    part: str  #: start of our names that it fills; the rest keeps its random start, or comes from an image model
    apart: tuple[str, ...]  #: parts of the file that only training needs, each a :data:`CODE_PREDICTION`
    skipped: tuple[str, ...]  #: starts of names in the file that nothing here needs
    card: str


CHECKPOINTS = {
    "glc-image-paper": Checkpoint(
        GLC_IMAGE,
        authors_name,
        part="",
        apart=PREDICTORS,
        skipped=(),
        card="The image model of the authors of Generative Latent Coding (Jia et al., CVPR 2024), "
        "https://github.com/jzyustc/GLC, whose licence applies.",
    ),
    "glc-video-paper": Checkpoint(
        GLC_VIDEO,
        authors_video_name,
        part="",
        apart=(),
        skipped=(),
        card="The video model of the authors of Generative Latent Coding (Qi et al., TCSVT 2025), "
        "https://github.com/jzyustc/GLC, whose licence applies, with their image model for its intra frames.",
    ),
    "vqgan-f16-16384": Checkpoint(
        GLC_IMAGE,
        taming_name,
        part="backbone.",
        apart=(),
        skipped=("loss.",),
        card="The VQGAN of taming-transformers (Esser et al., CVPR 2021), https://github.com/CompVis/taming-transformers,"
        " whose licence applies, as stage I of glc-image-paper. The rest of the model is untrained: train stages II "
        "and III from here, with this folder as the `start` of a recipe.",
    ),
}
PREDICTIONS = "code_prediction.safetensors"  # what is kept apart
WRAPPERS = ("state_dict", "net", "net_g")

# PyTorch Lightning named a class of its own in the checkpoints of taming's time. Loading finds this empty one instead.
ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": "pytorch_lightning.callbacks.model_checkpoint"})


class Imported(NamedTuple):
    """A published file, read."""

    model: GLCModel  #: in training mode: its entropy path in float32, as published
    predictors: dict[str, Tensor]  #: the code predictors, by their names in the file
    skipped: list[str]  #: names of what is not used


def import_file(source: Path, kind: str, folder: Path, image: Path | None = None) -> dict:
    """Make a zoo folder of a published checkpoint; the same file gives the same bytes.

    Args:
        source: the checkpoint, a PyTorch file.
        kind: one of :data:`CHECKPOINTS`.
        folder: written like any model of the zoo, in float32; code predictors go to a file of their own in it.
        image: the checkpoint of the image model, which codes the intra frames of a video model.

    Returns ``folder``, ``parameters``, and the names that were kept ``apart`` or ``skipped``. Raises
    :class:`ModelFileError` if the file is another model, with the first differences.
    """
    is_video = CHECKPOINTS[kind].config["model"] == "video"
    if is_video != (image is not None):
        need = "needs the image model, too, for its intra frames" if is_video else "has no use for an image model"
        raise ModelFileError(f"{kind} {need} (--image FILE)")
    sources = [source] if image is None else [source, image]
    tensors = read(source)
    try:
        model, predictors, skipped = convert(tensors, kind, read(image) if image else None)
        digests = " and ".join(f"`{zoo.sha256(path)}`" for path in sources)
        card = f"# {kind}\n\n{CHECKPOINTS[kind].card}\n\nImported from {len(sources)} file(s) of sha256 {digests}.\n"
        zoo.save(model, folder, kind, card, exact=True)
    except ValueError as error:
        raise ModelFileError(f"{source} cannot be imported as {kind}: {error}") from error
    if predictors:
        save_file(predictors, folder / PREDICTIONS)
        (folder / PREDICTIONS).chmod(0o644)  # safetensors writes for the owner alone
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"folder": str(folder), "parameters": parameters, "apart": sorted(predictors), "skipped": skipped}


def read(source: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, out of the wrappers that training codes put around them. Runs no code in it."""
    try:
        with torch.serialization.safe_globals([ModelCheckpoint]):
            tensors = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch's is pages long and advises the unsafe; others come from what it uses
        unsupported = re.search(r"Unsupported [^\n]*?(?= was not|\n|$)", str(error))
        reason = unsupported[0] if unsupported else str(error).split("\n")[0]
        if "weights_only" in reason:  # the advice to run what is in it
            reason = "it is damaged, or holds more than tensors, which would be code to run"
        raise ModelFileError(f"{source} is no PyTorch checkpoint of tensors alone: {reason}") from error
    for wrapper in WRAPPERS:
        if isinstance(tensors, dict) and isinstance(tensors.get(wrapper), dict):
            tensors = tensors[wrapper]
    if not isinstance(tensors, dict) or not all(
        isinstance(n, str) and isinstance(t, Tensor) for n, t in tensors.items()
    ):
        raise ModelFileError(f"{source} holds no state dict, alone or under {', '.join(WRAPPERS)}")
    return {name.removeprefix("module."): value for name, value in tensors.items()}


def convert(tensors: dict[str, Tensor], kind: str, image: dict[str, Tensor] | None = None) -> Imported:
    """Published tensors, and those of the image model of a video model, as a model.

    Raises ``ValueError`` with the first differences if they are not all its own.
    """
    checkpoint = CHECKPOINTS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # for the parts that the file does not fill
        model = models.build(checkpoint.config)
    intra = None if image is None else convert(image, "glc-image-paper")
    # What is learned is in the file; the flat table of z's codes is neither.
    learned = {
        n: p for n, p in model.named_parameters() if p.requires_grad and p.numel() and n.startswith(checkpoint.part)
    }
    ours = {n: p for n, p in learned.items() if intra is None or not n.startswith("image.")}
    wanted = {checkpoint.name(name): tuple(parameter.shape) for name, parameter in ours.items()}
    apart = [prefix for prefix in checkpoint.apart if any(name.startswith(f"{prefix}.") for name in tensors)]
    with torch.device("meta"):
        predictor = registry.build("loss", CODE_PREDICTION)
    wanted |= {f"{prefix}.{name}": tuple(p.shape) for prefix in apart for name, p in predictor.named_parameters()}
    skipped = sorted(name for name in tensors if name.startswith(checkpoint.skipped))
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items() if name not in set(skipped)}
    check(wanted, found)
    floats = {name: tensors[name].float().contiguous() for name in wanted}
    if bad := [name for name, tensor in floats.items() if not torch.isfinite(tensor).all()]:
        raise ValueError(f"not finite: {', '.join(bad[:5])}")
    model.load_state_dict({name: floats.pop(checkpoint.name(name)) for name in ours}, strict=False)
    if intra is not None:
        assert isinstance(model, GLCVideo)
        model.image.load_state_dict(intra.model.state_dict())
        floats |= intra.predictors
    return Imported(model, floats, skipped)


def check(wanted: dict[str, tuple], found: dict[str, tuple]) -> None:
    """Raise ``ValueError`` with the first of the names and shapes that differ."""
    differences = {
        "missing": [name for name in wanted if name not in found],
        "unknown": [name for name in found if name not in wanted],
        "of another shape": [
            f"{name} {found[name]} for {shape}" for name, shape in wanted.items() if found.get(name, shape) != shape
        ],
    }
    if any(differences.values()):
        lists = [
            f"{what} ({len(names)}): {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
            for what, names in differences.items()
            if names
        ]
        raise ValueError("; ".join(lists))
