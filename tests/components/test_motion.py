from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F

from glc_toolkit.coder import Decoder, Encoder
from glc_toolkit.components.fixed_point import fixed, to_fixed_point
from glc_toolkit.components.temporals import motion
from glc_toolkit.components.temporals.fields import LARGEST, SCALES, steps
from glc_toolkit.components.temporals.motion import refined
from glc_toolkit.components.temporals.moved_context import MovedContext
from glc_toolkit.models import GLCVideo
from glc_toolkit.models.video import Reference
from tests.conftest import moving_config
from tests.reference_decoder import Network, RangeDecoder
from tests.reference_video_decoder import read_field


def texture(height: int, width: int) -> torch.Tensor:
    """(1, 3, height, width), smooth enough to be interpolated."""
    torch.manual_seed(0)
    coarse = torch.rand(1, 3, height // 4, width // 4)
    return F.interpolate(coarse, (height, width), mode="bicubic")


@pytest.fixture
def context() -> MovedContext:
    torch.manual_seed(0)
    context = MovedContext(64, 56)
    context.update()
    return context


@pytest.mark.parametrize("down, right", [(0, 0), (3, -5), (-13, 9)])
def test_a_pan_is_found_and_followed(down, right):
    """``x`` at p is ``reference`` at p + (down, right)."""
    whole = texture(160, 192)
    reference, x = whole[..., 32:128, 32:160], whole[..., 32 + down : 128 + down, 32 + right : 160 + right]
    field = motion.Search(x, reference).field()
    inner = (..., slice(40, 56), slice(40, 88))  # what is seen in both, and blended of vectors that are
    assert (motion.moved(reference, field)[inner] - x[inner]).abs().max() < 1e-5
    assert field[0, :, 2, 3].tolist() == [down * motion.PHASES, right * motion.PHASES]


def test_quarters_of_a_pixel_are_found():
    whole = texture(512, 512)
    small = [F.avg_pool2d(whole[..., 0:448, k : k + 448], 4)[..., 32:80, 32:80] for k in (0, 1)]
    field = motion.Search(small[1], small[0]).field()
    assert field[0, :, 1, 1].tolist() == [0, 1]
    error, still = ((a - small[1])[..., 16:32, 16:32].abs().mean() for a in (motion.moved(small[0], field), small[0]))
    assert error < still / 5


def test_moved_pixels_are_exact_sums():
    """Against fractions, at pixels inside and at two edges."""
    torch.manual_seed(1)
    x = torch.randint(-(2**27), 2**27, (1, 1, 32, 32)).double() / 2**16
    field = torch.randint(-motion.MOST, motion.MOST + 1, (1, 2, 2, 2))
    moved = motion.moved(x, field)

    def at(row: int, column: int) -> Fraction:
        return Fraction(x[0, 0, max(0, min(row, 31)), max(0, min(column, 31))].item())

    def between(row: int, column: int, vector: list[int]) -> Fraction:
        (down, up), (right, left) = (divmod(v, motion.PHASES) for v in vector)
        total = Fraction(0)
        for i, a in enumerate(motion.FILTERS[up]):
            for j, b in enumerate(motion.FILTERS[left]):
                total += Fraction(a * b, 64**2) * at(row + down + i - 3, column + right + j - 3)
        return total

    for row, column in ((0, 0), (13, 20), (17, 7), (31, 16)):
        expected = Fraction(0)
        for block_row in (0, 1):
            for block_column in (0, 1):
                share = Fraction(1)
                for place, block in ((row, block_row), (column, block_column)):
                    near = Fraction(2 * place + 1, 2 * motion.BLOCK) - Fraction(1, 2)  # of the first centre
                    near = max(Fraction(0), min(near, Fraction(1)))
                    share *= near if block else 1 - near
                expected += share * between(row, column, field[0, :, block_row, block_column].tolist())
        assert Fraction(moved[0, 0, row, column].item()) == expected


@pytest.mark.parametrize("shape", [(1, 1), (3, 9), (8, 8), (23, 40)])
@pytest.mark.parametrize("spread", [0, 3, motion.MOST])
def test_a_field_is_read_as_it_was_written(context, shape, spread):
    torch.manual_seed(spread)
    rows, columns = (-(-side // 4) for side in shape)
    field = torch.randint(-spread, spread + 1, (1, 2, rows, columns))
    encoder = Encoder()
    context.put(encoder, field)
    stream = encoder.bytes()
    assert torch.equal(context.get(Decoder(stream), shape), field)
    bits = -context.likelihood(field).log2().sum().item()
    assert len(stream) * 8 <= bits + 64
    if spread == 0:
        assert bits < 4 + 0.2 * field.numel()


@pytest.mark.parametrize("shape", [(3, 5), (7, 9), (2, 9), (6, 1)])
@pytest.mark.parametrize("spread", [0, 2, 9, motion.MOST])
def test_the_second_decoder_reads_it(context, shape, spread):
    torch.manual_seed(spread)
    field = torch.randint(-spread, spread + 1, (1, 2, *shape))
    encoder = Encoder()
    context.put(encoder, field)
    tensors = {f"temporal.{name}": tensor.numpy() for name, tensor in context.state_dict().items()}
    other = read_field(RangeDecoder(encoder.bytes()), Network(tensors), *shape)
    assert other.tolist() == field[0].tolist()


def test_vectors_of_no_encoder_stay_within_reach(context):
    """Both decoders clamp a vector that a damaged stream sends too far."""
    encoder = Encoder()
    coder = context.field.entropy_model
    for _, _, rows in steps(torch.zeros(1, 2, 2, 2, dtype=torch.int64)):
        coder.put(encoder, torch.full((rows.numel(),), 2 * LARGEST), torch.full((rows.numel(),), len(SCALES) - 1))
    coder._quantized_cdf.copy_(coder._quantized_cdf[-1:].expand_as(coder._quantized_cdf))
    field = context.get(Decoder(encoder.bytes()), (8, 8))
    assert field.eq(motion.MOST).all()
    tensors = {f"temporal.{name}": tensor.numpy() for name, tensor in context.state_dict().items()}
    assert read_field(RangeDecoder(encoder.bytes()), Network(tensors), 2, 2).tolist() == field[0].tolist()


def test_what_stands_still_is_left_as_it_is(context):
    l = torch.rand(2, 64, 9, 13)
    field = context.estimate(l, l)
    assert not field.any()
    assert context.move(l, field) is l
    field[1, :, 2, 3] = 9
    for module in context.exact:
        to_fixed_point(module)
    l = fixed(l.double())
    assert torch.equal(context.move(l, field)[0], l[0])
    assert "blocks.bias" not in dict(context.named_parameters())  # a stage of training would let it learn


def test_bits_of_vectors_are_spent_where_they_are_worth_it(context):
    """Noise beside a pan: the search finds vectors in it, and few of them stay."""
    torch.manual_seed(0)
    whole = texture(160, 192)
    reference, x = whole[..., 32:128, 32:160], whole[..., 35:131, 27:155].clone()
    x[..., 48:, 64:] = 0.5 + 0.01 * torch.randn(3, 48, 64)
    reference = reference.clone()
    reference[..., 48:, 64:] = 0.5 + 0.01 * torch.randn(3, 48, 64)
    search = motion.Search(x, reference)
    raw, kept = refined(motion.coarse(x, reference), search.error), context.field.worthwhile(search.field(), search)
    bits = [-context.likelihood(field).log2().sum() for field in (raw, kept)]
    errors = [search.error(field).mean() for field in (raw, kept)]
    assert bits[1] < 0.7 * bits[0]
    assert errors[1] < errors[0] + motion.BIT * (bits[0] - bits[1]) / kept[0, 0].numel()
    assert search.error(torch.zeros_like(kept)).mean() > 2 * errors[1]


def test_blocks_and_all_else_of_a_latent_move(context):
    l = torch.rand(1, 64, 12, 16)
    field = torch.zeros(1, 2, 3, 4, dtype=torch.int64)
    field[:, 1] = 4 * motion.PHASES  # a pixel comes from four pixels to the right, one position
    moved = context.move(l, field)
    assert torch.allclose(moved[..., :-1], l[..., 1:], atol=1e-5)


def test_the_context_begins_as_the_moved_latent(context):
    l = torch.rand(1, 64, 4, 4)
    for adaptor in (None, 0):
        assert torch.equal(context(l, adaptor), l[:, :56])


@pytest.mark.parametrize("arguments, words", [({"side": 3}, "divides 16"), ({"channels": 40}, "48 channels of blocks")])
def test_what_cannot_be_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        MovedContext(**{"latent_channels": 64, "channels": 64, **arguments})


def test_motion_is_searched_between_originals():
    """In the decoded latent, which may be noise, a still clip would seem to move."""
    torch.manual_seed(0)
    video = GLCVideo(moving_config()).eval()
    video.update()
    x = texture(128, 128).clamp(0, 1)
    first, _ = video.encode_payload(video.frame_analysis(x, None), 100, None)
    noise = first._replace(l_hat=first.l_hat + 3 * torch.randn_like(first.l_hat))
    l = video.frame_analysis(x, noise)
    assert not video.motion(l, noise).any()
    assert video.motion(l, noise._replace(l=None)).any()


def test_what_a_vector_rounds_away_counts_in_the_next():
    """A pan of a tenth of the thumbnail's pixel a frame, where a vector has quarters."""
    video = GLCVideo({**moving_config(), "cycle": [0]}).eval()
    video.update()
    whole = texture(128, 160).clamp(0, 1)
    down, right = torch.meshgrid(torch.linspace(-0.8, 0.8, 96), torch.linspace(-0.8, 0.8, 128), indexing="ij")
    grids = [torch.stack([right + 0.4 * 2 / 160 * t, down], -1)[None] for t in range(11)]
    frames = [F.grid_sample(whole, grid, mode="bicubic", align_corners=False).clamp(0, 1) for grid in grids]
    l = video.frame_analysis(frames[0], None)
    reference, far = Reference(l, 1, l), 0.0
    for frame in frames[1:]:
        l = video.frame_analysis(frame, reference)
        field = video.motion(l, reference)
        far += field[:, 1].float().mean().item()
        reference = video.leaves(l, l, reference, field)
    assert abs(far - 4) <= 1  # quarters
