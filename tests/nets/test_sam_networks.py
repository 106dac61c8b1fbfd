"""SAM's networks: Meta's numbers, Fourier features, tokens in their order, and what a masked autoencoder cannot see."""

import math
from collections.abc import Iterator

import pytest
import torch
from meta_sam import (
    BOXES,
    IMAGE,
    LABELS,
    MASKS,
    POINTS,
    decoder_like_theirs,
    encoder_like_theirs,
    load,
    scattered,
    shapes_of,
)
from torch import Tensor, nn

from flowlib.nets import ViT
from flowlib.nets.mae import MaskedAutoencoder, visible_patches
from flowlib.nets.mask_decoder import MaskDecoder
from flowlib.nets.norm import LayerNorm2d
from flowlib.nets.prompts import FourierFeatures, PromptEncoder, corners_of
from flowlib.nets.sam import SAM, ImageEncoder
from flowlib.nets.two_way import SplitAttention, TwoWayTransformer

# What Meta's `PromptEncoder` and `MaskDecoder` of segment_anything.modeling give with the weights `scattered`, in
# float32: positions of every fifth channel at one cell; every seventh component of the tokens of the first prompt of
# all kinds, and of two points alone, one of them padding; every ninth channel of what a mask adds at one cell; and for
# the prompts of all kinds the masks at one pixel and their predicted IoU, three of them or one.
PLACES = [-0.861091, -0.459497, 0.521957, 0.550287]
TOKENS = [
    [1.443367, 0.503445, -0.512976],
    [0.654314, -0.57763, -0.190798],
    [0.842281, 0.652976, 0.355669],
    [0.584367, -0.553615, 0.183165],
]
PADDED = [[1.019551, -0.458225, 1.225069], [-0.405293, 0.516872, -0.576043], [-0.405293, 0.516872, -0.576043]]
DENSE = [[0.623082, 0.032285], [0.253942, 0.407602], [0.700709, -0.052962]]
THREE = [[-0.525035, -0.197711, 0.063605], [-0.444473, -0.221688, 0.068337], [-0.448152, -0.275601, 0.063353]]
THREE_IOU = [[1.610243, -0.185777, -2.056875], [1.30412, -0.740892, -2.171057], [1.087548, -1.046423, -1.993812]]
ONE, ONE_IOU = [[0.243285], [0.254004], [0.237049]], [[0.691328], [0.323805], [0.202746]]


@pytest.fixture(autouse=True)
def _seed(seeded_weights: Iterator[None]) -> None:
    """The same weights each time."""


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def close(found: Tensor, expected: object, bar: float = 1e-5) -> None:
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=bar)


# --- the published networks


@torch.no_grad()
def test_prompts_give_the_numbers_of_metas_code() -> None:
    net = encoder_like_theirs()
    load(net, scattered(shapes_of(net)))
    close(net.image_places()[::5, 1, 3], PLACES, 1e-6)
    tokens, dense = net(POINTS, LABELS, BOXES, MASKS)
    close(tokens[0, :, ::7], TOKENS)
    close(dense[:, ::9, 1, 2], DENSE)
    close(net(POINTS, LABELS)[0][1, :, ::7], PADDED)


@torch.no_grad()
def test_masks_give_the_numbers_of_metas_code() -> None:
    prompts, decoder = encoder_like_theirs(), decoder_like_theirs()
    for net in (prompts, decoder):
        load(net, scattered(shapes_of(net)))
    tokens, dense = prompts(POINTS, LABELS, BOXES, MASKS)
    for several, masks, iou in ((True, THREE, THREE_IOU), (False, ONE, ONE_IOU)):
        found = decoder(IMAGE, prompts.image_places(), tokens, dense, several)
        close(found[0][:, :, 5, 7], masks)
        close(found[1], iou)


# --- prompts


def test_fourier_features_are_sines_and_cosines_of_the_place() -> None:
    net = FourierFeatures(4).double()
    net.frequencies.copy_(torch.tensor([[1.0, 0.5], [2.0, -1.0]]))
    x, y = 0.3, 0.9
    angles = [2 * math.pi * (fx * (2 * x - 1) + fy * (2 * y - 1)) for fx, fy in ((1.0, 2.0), (0.5, -1.0))]
    expected = [*map(math.sin, angles), *map(math.cos, angles)]
    assert net(torch.tensor([x, y], dtype=torch.float64)).tolist() == pytest.approx(expected, abs=1e-12)
    grid = net.grid(2, 4)
    point = torch.tensor([3.5 / 4, 0.5 / 2], dtype=torch.float64)
    assert torch.allclose(grid[:, 0, 3], net(point), atol=1e-12)
    assert [name for name, _ in net.named_parameters()] == []


def test_the_products_of_fourier_features_are_a_kernel_of_the_distance() -> None:
    """The mean of cos(2 pi f.d) over normal f is exp(-2 pi^2 |d|^2), with d twice the distance."""
    net = FourierFeatures(40_000)
    a, b = torch.tensor([0.4, 0.6]), torch.tensor([[0.4, 0.6], [0.45, 0.6], [0.5, 0.55], [0.9, 0.1]])
    product = net(b) @ net(a) / 20_000
    expected = torch.exp(-2 * math.pi**2 * (2 * (b - a)).square().sum(1))
    assert torch.allclose(product, expected, atol=4 / 20_000**0.5)


def tiny_prompts(**changes: object) -> PromptEncoder:
    return PromptEncoder(8, (4, 4), (8, 8), **({"doublings": 1, "mask_channels": 4, "text_dim": 3} | changes))  # type: ignore[arg-type]


def test_a_pixel_is_where_its_cell_of_the_embedding_is() -> None:
    """With one cell a pixel, a point's features are those of the cell: x is a column and y a row."""
    net = PromptEncoder(8, (4, 6), (4, 6), doublings=1)
    tokens, _ = net(torch.tensor([[[5.0, 2.0]]]), torch.tensor([[1]]))
    close(tokens[0, 0] - net.kinds.weight[1], net.image_places()[:, 2, 5].tolist(), 1e-6)


def test_padding_is_no_place_and_no_kind() -> None:
    net = tiny_prompts()
    points = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    tokens, _ = net(points, torch.tensor([[1, -1]]))
    assert torch.equal(tokens[0, 1], net.no_point)
    assert torch.equal(tokens[0, 2], net.no_point)
    moved, _ = net(points + torch.tensor([[[0.0, 0.0], [2.0, 1.0]]]), torch.tensor([[1, -1]]))
    assert torch.equal(tokens, moved)
    box = torch.tensor([[1.0, 1.0, 4.0, 5.0]])
    assert net(points, torch.tensor([[1, 0]]), box)[0].shape == (1, 4, 8)  # beside a box there is no padding
    corners = torch.tensor([[[1.0, 1.0], [4.0, 5.0]]])
    kinds = net.kinds.weight
    close(
        (net(None, None, box)[0] - kinds[2:])[0],
        (net(corners, torch.tensor([[0, 1]]))[0][:, :2] - kinds[:2])[0].tolist(),
    )


def test_texts_and_masks_are_prompts_too() -> None:
    net = tiny_prompts()
    tokens, dense = net(text=torch.eye(3))
    assert tokens.shape == (3, 1, 8)
    assert torch.equal(dense, net.no_mask[:, None, None].expand(3, 8, 4, 4))
    tokens, dense = net(masks=torch.zeros(2, 1, 8, 8))
    assert tokens.shape == (2, 0, 8)
    assert dense.shape == (2, 8, 4, 4)


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ({"points": torch.zeros(2, 1, 2)}, "points and labels go together"),
        ({"points": torch.zeros(2, 1, 3), "labels": torch.ones(2, 1)}, r"\(B, P, 2\) and \(B, P\), got \(2, 1, 3\)"),
        ({"points": torch.zeros(2, 1, 2), "labels": torch.full((2, 1), 2)}, "labels must be 1, 0 or -1, got 2 ... 2"),
        ({"boxes": torch.zeros(2, 3)}, r"boxes must have shape \(B, 4\)"),
        ({"boxes": torch.zeros(2, 4), "text": torch.zeros(3, 3)}, r"one for each of a batch, got \[2, 3\]"),
        ({"text": torch.zeros(2, 4)}, r"text must be \(B, 3\), got shape \(2, 4\)"),
        ({"masks": torch.zeros(2, 1, 4, 4)}, r"masks must be logits \(B, 1, \(8, 8\)\)"),
    ],
)
def test_wrong_prompts_are_named(prompts: dict[str, Tensor], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tiny_prompts()(**prompts)
    with pytest.raises(ValueError, match="None: this encoder reads no text"):
        tiny_prompts(text_dim=None)(text=torch.zeros(1, 3))


def test_corners_are_the_first_and_the_last_pixel() -> None:
    assert corners_of(torch.tensor([0.0, 2.0, 16.0, 3.0])).tolist() == [0.0, 2.0, 15.0, 2.0]


# --- the decoder


def test_the_norm_of_a_pixel_looks_at_no_other() -> None:
    x = 0.01 * torch.randn(2, 6, 3, 4, generator=seeded(0))  # so small that what is added to the variance shows
    norm = LayerNorm2d(6)
    for p in norm.parameters():
        nn.init.normal_(p)
    found = norm(x)[1, :, 2, 3]
    one = x[1, :, 2, 3]
    expected = (one - one.mean()) / (one.var(unbiased=False) + 1e-6).sqrt() * norm.weight + norm.bias
    assert torch.allclose(found, expected, atol=1e-6)


def test_attention_of_equal_keys_is_the_mean_of_the_values() -> None:
    net = SplitAttention(8, 2, inner=4)
    v = torch.randn(1, 5, 8, generator=seeded(0))
    out = net(torch.randn(1, 3, 8), torch.ones(1, 5, 8), v)
    assert torch.allclose(out, net.out(net.v(v.mean(1, keepdim=True))).expand_as(out), atol=1e-6)


def tiny_sam(**changes: object) -> SAM:
    vit = ViT(image_size=8, patch=2, width=8, depth=1, heads=2, pool="mean")
    decoder = MaskDecoder(TwoWayTransformer(8, 2, 2, 16), doublings=1)
    return SAM(ImageEncoder(vit, 8), tiny_prompts(**changes), decoder).double().eval()


def test_an_image_is_embedded_once_for_many_prompts() -> None:
    sam = tiny_sam()
    x = torch.randn(1, 3, 8, 8, generator=seeded(0)).double()
    points, labels = torch.tensor([[[1.0, 2.0]], [[6.0, 5.0]], [[3.0, 3.0]]]).double(), torch.tensor([[1], [1], [0]])
    calls = []
    sam.image_encoder.register_forward_hook(lambda *_: calls.append(1))
    together = sam.masks(sam.embed(x), points, labels)
    assert len(calls) == 1
    for i in range(3):
        alone = sam(x, points[i : i + 1], labels[i : i + 1])
        for found, expected in zip(together, alone, strict=True):
            assert torch.allclose(found[i : i + 1], expected, atol=1e-12)
    with pytest.raises(ValueError, match="image must be one, or one for each of 3 prompts, got 2"):
        sam.masks(sam.embed(x.expand(2, -1, -1, -1)), points, labels)


def test_the_order_of_points_means_nothing() -> None:
    sam = tiny_sam()
    x = torch.randn(1, 3, 8, 8, generator=seeded(0)).double()
    points, labels = torch.tensor([[[1.0, 2.0], [6.0, 5.0], [0.0, 7.0]]]).double(), torch.tensor([[1, 0, 1]])
    found, turned = sam(x, points, labels), sam(x, points.flip(1), labels.flip(1))
    for a, b in zip(found, turned, strict=True):
        assert torch.allclose(a, b, atol=1e-12)
    other = sam(x, points, 1 - labels)[0]
    assert float((found[0] - other).detach().abs().max()) > 1e-3


def test_each_mask_has_a_token_and_a_network_of_its_own() -> None:
    """The single mask's token and network move the single mask alone, in what stands behind the transformer."""
    sam = tiny_sam()
    x = torch.randn(1, 3, 8, 8, generator=seeded(0)).double()
    points, labels = torch.tensor([[[1.0, 2.0]]]).double(), torch.tensor([[1]])
    three, one = sam(x, points, labels)[0], sam(x, points, labels, several=False)[0]
    assert three.shape == (1, 3, 8, 8)
    assert one.shape == (1, 1, 8, 8)
    nn.init.zeros_(sam.mask_decoder.vectors[0][-1].weight)
    nn.init.zeros_(sam.mask_decoder.vectors[0][-1].bias)
    assert torch.equal(sam(x, points, labels)[0], three)
    assert bool((sam(x, points, labels, several=False)[0] == 0).all())


# --- the masked autoencoder


def mae() -> MaskedAutoencoder:
    encoder = ViT(image_size=8, patch=2, width=8, depth=1, heads=2, pool="mean")
    return MaskedAutoencoder(encoder, width=8, depth=1, heads=2).double().eval()


def test_exactly_the_share_is_hidden_and_every_patch_as_often() -> None:
    keep = visible_patches(4000, 16, 0.75, seeded(0))
    assert keep.shape == (4000, 4)
    assert bool((keep.diff(dim=1) > 0).all())  # in order, none twice
    often = torch.bincount(keep.flatten(), minlength=16) / 4000
    assert bool(((often - 0.25).abs() < 5 * (0.25 * 0.75 / 4000) ** 0.5).all())
    assert visible_patches(1, 64, 0.75).shape == (1, 16)
    assert visible_patches(1, 3, 0.9).shape == (1, 1)  # one is always seen
    assert torch.equal(keep, visible_patches(4000, 16, 0.75, seeded(0)))


def test_nothing_of_what_is_made_up_depends_on_hidden_patches() -> None:
    net, keep = mae(), torch.tensor([[2, 5, 11]])
    x = torch.randn(1, 3, 8, 8, generator=seeded(0)).double()
    jacobian = torch.autograd.functional.jacobian(lambda image: net(image, keep), x)  # (1, 16, 12, 1, 3, 8, 8)
    size = jacobian[0, :, :, 0].abs().amax((0, 1, 2)).unfold(0, 2, 2).unfold(1, 2, 2).amax((2, 3)).flatten()
    seen = torch.zeros(16, dtype=torch.bool)
    seen[keep[0]] = True
    assert bool((size[~seen] == 0).all())
    assert bool((size[seen] > 1e-6).all())


def test_a_seen_patch_comes_back_at_its_own_place() -> None:
    """The decoder reads the features in the places that they came from: those of others hold the hidden vector."""
    net, keep = mae(), torch.tensor([[1, 6]])
    x = torch.randn(1, 3, 8, 8, generator=seeded(0)).double()
    given: list[Tensor] = []
    net.transformer.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0] - net.places))
    net(x, keep)
    seen = net.narrow(net.encoder(x, keep=keep)[1])
    assert torch.allclose(given[0][0, keep[0]], seen[0], atol=1e-12)
    others = [i for i in range(16) if i not in (1, 6)]
    assert torch.allclose(given[0][0, others], net.hidden.expand(14, -1), atol=1e-12)


def test_an_encoder_with_a_class_token_is_refused() -> None:
    with pytest.raises(ValueError, match="pool='mean'"):
        MaskedAutoencoder(ViT(image_size=8, patch=2, width=8, depth=1, heads=2))
