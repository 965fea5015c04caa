"""Where the time and the memory of a model go: one picture or P frame through encoder and decoder, stage by stage.

The stages are timed inside a real encode and decode. Calls nest: a hyper module calls the coder. Time counts for the
innermost stage alone, so that the stages add up to the whole. Each stage is compared with a plain run of the same
graph: the same components in float32, eager, in PyTorch's own layout, with nothing fused or tiled.
"""

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from glc_toolkit import coder, io, models, published, registry, zoo
from glc_toolkit.components.int8 import has_int8
from glc_toolkit.evaluation.codecs import named
from glc_toolkit.evaluation.memory import peak_memory
from glc_toolkit.evaluation.replaced import replaced
from glc_toolkit.models import GLCModel, GLCVideo
from glc_toolkit.models.video import Reference
from glc_toolkit.types import Moving

# Models that can be measured without their weights.
CONFIGS = {"glc-image-paper": published.GLC_IMAGE, "glc-video-paper": published.GLC_VIDEO}
BETWEEN = "between the stages"  # padding, masks, quantization, the choice of tables
Stage = tuple[str, str]  #: direction and name


def load(name: str, **options) -> GLCModel:
    """A model of the zoo or of a folder; with random weights one of :data:`CONFIGS` that the zoo lacks."""
    if name not in CONFIGS or name in zoo.list_models():
        return zoo.load(name, **options)
    return untrained(CONFIGS[name], **options)


def untrained(config: dict, device: str | torch.device = "cpu", precision: str = "float32") -> GLCModel:
    """A model with random weights, ready to code."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.build(config).eval()
    model.update()
    model.to(device).set_precision(precision)
    return model


def picture(width: int, height: int) -> Tensor:
    """A picture (1, 3, height, width) in [0, 1] with detail of every size, as photographs have: octaves of noise."""
    generator = torch.Generator().manual_seed(0)
    x = torch.full((1, 3, height, width), 0.5)
    for octave in range(1, 8):
        noise = torch.randn(1, 3, 2**octave, 2**octave, generator=generator)
        x += 0.3 * 0.6**octave * F.interpolate(noise, (height, width), mode="bicubic")
    return x.clamp(0, 1)


def bench(model: GLCModel, x: Tensor, repeats: int = 3) -> dict:
    """Code ``x`` (1, 3, H, W) once to count, then ``repeats`` times to measure. A video model codes it as a P frame,
    after frames that differ by a shift of two pixels.

    Returns ``stages``, a list of ``{"direction", "stage", "seconds", "gflop", "gflop_per_second", "peak_mb"}``,
    ``bytes`` of the stream and ``psnr`` of the picture in dB. Seconds are the median. ``peak_mb`` is the peak memory,
    in MB, of the process, or of what PyTorch holds on a GPU.
    """
    x = x.to(next(model.parameters()).device)
    code = model.quality_code(None)
    reference = _frame_before(model, x, code) if isinstance(model, GLCVideo) else None
    meter = _Meter(x.device)
    counted = _Stages(meter)
    with counted.inside(model):
        stream, x_hat = counted.both_ways(model, x, code, reference)
    seconds = defaultdict(list)
    for _ in range(repeats):
        timed = _Stages(_Clock(x.device))
        with timed.inside(model):
            timed.both_ways(model, x, code, reference)
        for stage, spent in timed.spent.items():
            seconds[stage].append(spent)
    stages = []
    for (direction, stage), spent in counted.spent.items():
        gflop, time_ = spent / 1e9, median(seconds[direction, stage])
        stages.append(
            {
                "direction": direction,
                "stage": stage,
                "seconds": time_,
                "gflop": gflop,
                "gflop_per_second": gflop / time_,
                "peak_mb": meter.peaks[direction, stage] / 1e6,
            }
        )
    mse = F.mse_loss(x_hat, x).item()
    return {"stages": stages, "bytes": len(stream), "psnr": -10 * torch.tensor(mse).log10().item()}


def _frame_before(model: GLCVideo, x: Tensor, code: int) -> Reference:
    """What a decoder holds before a P frame that uses the frames before it."""
    intra, _ = model.encode_payload(model.frame_analysis(x.roll(4, -1), None), code, None)
    return model.encode_payload(model.frame_analysis(x.roll(2, -1), intra), code, intra)[0]


def totals(stages: list[dict]) -> list[dict]:
    """One row for each direction: the sum of its stages, and the largest of their peaks."""
    rows = []
    for direction in dict.fromkeys(row["direction"] for row in stages):
        own = [row for row in stages if row["direction"] == direction]
        seconds, gflop = (sum(row[key] for row in own) for key in ("seconds", "gflop"))
        peak = max(row["peak_mb"] for row in own)
        facts = {"seconds": seconds, "gflop": gflop, "gflop_per_second": gflop / seconds, "peak_mb": peak}
        rows.append({"direction": direction, "stage": "all", **facts})
    return rows


def report(name: str, width: int, height: int, device: str, precision: str, repeats: int, compare: bool) -> dict:
    """Everything that ``glc bench`` shows. The plain model goes first, and is gone when the other is measured."""
    x = picture(width, height)
    if name.partition(":")[0] in registry.names("codec"):
        return bench_codec(name, x, repeats)
    other = bench(load(name, device=device).plain(), x, repeats) if compare else None
    model = load(name, device=device, precision=precision)
    result = bench(model, x, repeats)
    result["stages"] += totals(result["stages"])
    if other is not None:
        plain_rows = {(row["direction"], row["stage"]): row for row in other["stages"] + totals(other["stages"])}
        for row in result["stages"]:
            twin = plain_rows[row["direction"], row["stage"]]
            row |= {"plain_seconds": twin["seconds"], "plain_peak_mb": twin["peak_mb"]}
            row["speedup"] = twin["seconds"] / row["seconds"]
        result["plain"] = {key: other[key] for key in ("bytes", "psnr")}
    where = torch.cuda.get_device_name(device) if x.new_empty(0, device=device).is_cuda else "cpu"
    facts = {"model": name, "width": width, "height": height, "device": where, "precision": model.precision}
    if isinstance(model, GLCVideo):
        facts["fps"] = {row["direction"]: 1 / row["seconds"] for row in result["stages"] if row["stage"] == "all"}
    return {**facts, "threads": torch.get_num_threads(), **result}


def bench_codec(name: str, x: Tensor, repeats: int) -> dict:
    """Seconds and peak memory of each direction of a codec of ``glc_codecs``, at the first of its settings."""
    family, (setting, *_) = named(name)
    codec, image = family.codec(setting), io.to_pillow(x)
    seconds, peaks = defaultdict(list), defaultdict(int)
    data, decoded = b"", image
    for _ in range(repeats):
        for direction in ("encode", "decode"):
            peak_memory(x.device)
            started = time.perf_counter()
            if direction == "encode":
                data = codec.encode(image)
            else:
                decoded = codec.decode(data)
            seconds[direction].append(time.perf_counter() - started)
            peaks[direction] = max(peaks[direction], peak_memory(x.device))
    stages = [
        {"direction": way, "stage": "all", "seconds": median(spent), "peak_mb": peaks[way] / 1e6}
        for way, spent in seconds.items()
    ]
    facts = {"model": family.name, "width": image.width, "height": image.height, "device": "cpu"}
    psnr = -10 * F.mse_loss(io.to_tensor(decoded), io.to_tensor(image)).log10().item()
    more = {"precision": f"at {setting}", "threads": torch.get_num_threads()}
    return {**facts, **more, "stages": stages, "bytes": len(data), "psnr": psnr}


def _temporal_stages(model: GLCVideo) -> list[tuple]:
    stages = [(model.temporal, "forward", "temporal context")]
    if isinstance(model.temporal, Moving):
        stages += [(model.temporal, "estimate", "motion search"), (model.temporal, "move", "motion")]
    return stages


class _Stages:
    """Charges what a meter counts to the innermost stage that is running."""

    def __init__(self, meter: "_Clock | _Meter"):
        self.meter = meter
        self.spent: dict[Stage, float] = defaultdict(float)
        self.stack: list[Stage] = []

    @contextlib.contextmanager
    def inside(self, model: GLCModel) -> Iterator[None]:
        """While it lasts, the parts of ``model`` and the coder report when they are called."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.meter)
            for owner, method, name in (
                (model.backbone, "analysis", "backbone analysis"),
                (model.backbone, "synthesis", "backbone synthesis"),
                *(_temporal_stages(model) if isinstance(model, GLCVideo) else []),
                (model.transform, "analysis", "transform analysis"),
                (model.transform, "synthesis", "transform synthesis"),
                (model.hyper, "encode", "hyper"),
                (model.hyper, "decode", "hyper"),
                (model.context, "reduce", "context, reduction"),
                (model.context, "forward", "context, pass {}"),
                (coder.Encoder, "put", "entropy coder"),
                (coder.Encoder, "bytes", "entropy coder"),
                (coder.Decoder, "get", "entropy coder"),
            ):
                stack.enter_context(replaced(owner, method, partial(self.timed, name)))
            yield

    def timed(self, name: str, call: Callable) -> Callable:
        def wrapper(*args, **kwargs):
            with self.stage((self.stack[0][0], name.format(*args[:1]))):
                return call(*args, **kwargs)

        return wrapper

    @contextlib.contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        if self.stack:
            self.spent[self.stack[-1]] += self.meter.read(self.stack[-1])
        else:
            self.meter.read(stage)
        self.stack.append(stage)
        yield
        self.spent[stage] += self.meter.read(stage)
        self.stack.pop()

    def both_ways(self, model, x: Tensor, code: int, reference: Reference | None) -> tuple[bytes, Tensor]:
        shape = (x.shape[-2], x.shape[-1])
        with self.stage(("encode", BETWEEN)):
            if reference is None:
                stream = model.encode_payload(model.analysis(x), code)
            else:
                _, stream = model.encode_payload(model.frame_analysis(x, reference), code, reference)
        with self.stage(("decode", BETWEEN)):
            if reference is None:
                x_hat = model.decode_payload(stream, code, shape)
            else:
                x_hat = model.reconstruct(model.decode_payload(stream, code, shape, reference), shape)
        return stream, x_hat


class _Clock(contextlib.nullcontext):
    """Seconds since it was last read."""

    def __init__(self, device: torch.device):
        super().__init__()
        self.device = device
        self.last = time.perf_counter()

    def read(self, stage: Stage) -> float:
        if self.device.type == "cuda":  # kernels are only queued so far
            torch.cuda.synchronize(self.device)
        last, self.last = self.last, time.perf_counter()
        return self.last - last


class _Meter(FlopCounterMode):
    """Floating-point operations since it was last read, and the peak memory of each stage."""

    def __init__(self, device: torch.device):
        # PyTorch counts no operations of these: convolutions in fixed point (components/fixed_point.py) and in int8.
        aten = torch.ops.aten
        own = {op: _multiply_and_add for op in (aten.addcmul, aten.addcmul_)} | {aten._int_mm: _third_of_products}
        if has_int8(device):
            own[torch.ops.onednn.qconv2d_pointwise] = _convolution
        super().__init__(display=False, custom_mapping=own)
        self.device = device
        self.last = 0
        self.peaks: dict[Stage, int] = defaultdict(int)

    def read(self, stage: Stage) -> int:
        self.peaks[stage] = max(self.peaks[stage], peak_memory(self.device))
        last, self.last = self.last, self.get_total_flops()
        return self.last - last


def _multiply_and_add(*shapes, out_shape: tuple, **_) -> int:
    return 2 * torch.Size(out_shape).numel()


def _convolution(*shapes, out_shape: tuple, **_) -> int:
    weight = shapes[3]
    return 2 * torch.Size(out_shape).numel() * weight[1:].numel()


def _third_of_products(rows: tuple, columns: tuple, *_, **__) -> float:
    """Three products of digits make up one product of numbers, and count as one."""
    return 2 * rows[0] * rows[1] * columns[1] / 3
