"""Cut-outs and what Disco Diffusion descends, each beside its closed form; and prompts with weights."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.systems.cut_schedule import Cuts, read_schedule
from flowlib.systems.cutouts import augment, cutouts, to_grey
from flowlib.systems.disco_losses import (
    perceptual_pull,
    prompt_distance,
    range_loss,
    saturation_loss,
    spherical_distance,
    targets_of,
    total_variation,
)
from flowlib.systems.weighted import Prompt, parse_prompt, parse_prompts


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def at_angle(theta: float) -> Tensor:
    return torch.tensor([math.cos(theta), math.sin(theta)], dtype=torch.float64)


@pytest.mark.parametrize("theta", [0.0, 1e-9, 0.3, 1.5, 3.0, math.pi])
def test_the_distance_is_half_the_squared_angle_and_its_gradient_the_angle(theta: float) -> None:
    a, b = (3 * at_angle(theta)).requires_grad_(), 0.5 * at_angle(0.0)
    distance = spherical_distance(a, b)
    assert float(distance.detach()) == pytest.approx(theta**2 / 2, rel=1e-6, abs=1e-30)
    published = (F.normalize(a.detach(), dim=0) - F.normalize(b, dim=0)).norm().div(2).clamp(max=1).arcsin().pow(2) * 2
    assert float(distance.detach()) == pytest.approx(float(published), rel=1e-6, abs=1e-20)
    (gradient,) = torch.autograd.grad(distance, a)
    if theta < math.pi:  # a is 3 long, so that its direction turns by a third of what it moves by
        assert float(gradient.norm()) == pytest.approx(theta / 3, rel=1e-5, abs=1e-20)
    assert bool(torch.isfinite(gradient).all())


def test_the_gradient_is_zero_at_the_same_and_at_the_opposite_vector() -> None:
    for sign in (1, -1):
        a = torch.tensor([0.0, 0.0, 1.0], requires_grad=True)
        (gradient,) = torch.autograd.grad(spherical_distance(a, sign * torch.tensor([0.0, 0.0, 2.0])), a)
        assert torch.equal(gradient, torch.zeros(3)), sign


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a red seven:2", Prompt("a red seven", 2.0)),
        ("blue:-0.5", Prompt("blue", -0.5)),
        ("a red seven", Prompt("a red seven", 1.0)),
        (" at 12:30 : 1e-1 ", Prompt("at 12:30", 0.1)),
        ("C:/a.png:3", Prompt("C:/a.png", 3.0)),
    ],
)
def test_the_weight_stands_behind_the_last_colon(text: str, found: Prompt) -> None:
    assert parse_prompt(text) == found


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["a red seven:two"], "the weight of a prompt must be a number behind its last colon, got 'two'"),
        (["a red seven:"], "must be a number behind its last colon, got ''"),
        (["a:nan"], "must be a number"),
        (["a:inf"], "must be a number"),
        ([":2"], "a prompt must not be empty"),
        ([" "], "a prompt must not be empty"),
        ([], "prompts must be given"),
        (["a:1", "b:-1"], "the weights of prompts must not sum to 0, got 1, -1"),
    ],
)
def test_bad_prompts_are_named(texts: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_prompts(texts)


def test_weights_are_divided_by_the_size_of_their_sum() -> None:
    assert [prompt.weight for prompt in parse_prompts(["a:3", "b:-1"])] == [1.5, -0.5]
    assert [prompt.weight for prompt in parse_prompts(["a:1", "b:-3"])] == [0.5, -1.5]


def test_a_schedule_is_its_list_of_a_thousand() -> None:
    listed = [12.0] * 400 + [4.0] * 600
    at = read_schedule("[12]*400+[4]*600")
    assert [at((k + 0.5) / 1000) for k in range(1000)] == listed
    assert (at(0.0), at(1.0)) == (12, 4)
    three = read_schedule(" [1]*1 + [0.5] * 2+[7]*1")
    assert [three(t) for t in (0.0, 0.24, 0.25, 0.74, 0.76)] == [1, 1, 0.5, 0.5, 7]


@pytest.mark.parametrize("text", ["", "[12]", "[12]*400-[4]*600", "[x]*3", "[1]*0", "12*400", "[1.2.3]*4", "[1]*2+"])
def test_a_text_that_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"a schedule must look like '\[12\]\*400\+\[4\]\*600', got"):
        read_schedule(text)


def test_the_defaults_are_the_published_ones_and_keep_their_ratio() -> None:
    assert [Cuts().at(t) for t in (0.0, 0.39, 0.4, 1.0)] == [(12, 4, 0.2), (12, 4, 0.2), (4, 12, 0.0), (4, 12, 0.0)]
    assert [Cuts(count=8).at(t)[:2] for t in (0.0, 1.0)] == [(6, 2), (2, 6)]
    assert Cuts(count=1).at(0.0)[:2] == (1, 0)
    for bad, says in (
        ({"count": 0}, "cuts must be an integer >= 1"),
        ({"smallest": 0.0}, "smallest must be"),
        ({"overview": "12"}, "a schedule must look like"),
        ({"overview": "[0]*1", "inner": "[0]*1"}, "overview and inner must not both be 0"),
    ):
        with pytest.raises(ValueError, match=says):
            Cuts(**bad)


def test_overviews_are_the_whole_picture_in_four_kinds() -> None:
    x = torch.rand(2, 3, 8, 8, generator=seeded()) * 2 - 1
    grey = to_grey(x)
    assert torch.allclose(grey[:, 0], 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2])
    assert torch.equal(grey[:, 0], grey[:, 2])
    found = cutouts(x, 4, 0, 8, seeded(), flip=True)
    for view, expected in zip(found, (x, grey, x.flip(3), grey.flip(3)), strict=True):
        assert torch.allclose(view, expected, atol=1e-6)
    upright = cutouts(x, 4, 0, 8, seeded())
    assert torch.equal(upright[2], x)
    assert torch.equal(cutouts(x, 6, 0, 8, seeded(), flip=True), x.expand(6, -1, -1, -1, -1))
    wide = cutouts(x[:, :, :4], 1, 0, 8, seeded())[0]
    assert torch.equal(wide[:, :, 2:6], x[:, :, :4])
    assert bool((wide[:, :, :2] == -1).all())
    assert bool((wide[:, :, 6:] == -1).all())


def test_inner_views_are_squares_of_the_picture_at_random_places() -> None:
    """On a picture whose pixels say where they are, a view of the same size is a linear map of where it was cut."""
    side = 16
    ramp = torch.arange(side).float()
    x = torch.stack([ramp[None].expand(side, side), ramp[:, None].expand(side, side)])[None]
    views = cutouts(x, 0, 400, side, seeded(), smallest=0.5)[:, 0]
    slope = (views[:, 0, 8, 11] - views[:, 0, 8, 4]) / 7 * side  # of the middle, which no edge has touched
    down = (views[:, 1, 11, 8] - views[:, 1, 4, 8]) / 7 * side
    assert torch.allclose(slope, down, atol=1e-4)
    sides = slope.round()
    assert sorted(set(sides.tolist())) == list(range(8, 17))
    assert float(sides.mean()) == pytest.approx(12, abs=0.4)  # uniform in 8 ... 16, sd 2.6 / 20
    lefts = views[:, 0].mean((1, 2)) - (sides - 1) / 2
    assert float(lefts.min()) > -0.01
    assert bool((lefts + sides < side + 0.01).all())
    small = sides == 8
    assert len(set(lefts[small].round().tolist())) > 5
    steep = cutouts(x, 0, 400, side, seeded(), smallest=0.5, power=3.0)[:, 0, 0]
    assert (
        float((steep[:, 8, 11] - steep[:, 8, 4]).mean()) < float((views[:, 0, 8, 11] - views[:, 0, 8, 4]).mean()) - 0.3
    )
    grey = cutouts(torch.rand(1, 3, 8, 8, generator=seeded()), 0, 10, 8, seeded(), grey=0.3)[:, 0]
    assert [bool(torch.equal(view[0], view[1])) for view in grey] == [True] * 3 + [False] * 7


def test_a_view_is_turned_and_moved_on_its_own_by_as_much_as_is_said() -> None:
    """A white bar: its middle and its direction are read off the first and second moments of what is bright."""
    x = torch.full((1, 3, 32, 32), -1.0)
    x[:, :, 6:26, 14:18] = 1.0
    views = x.expand(300, -1, -1, -1, -1)
    changed = augment(views, seeded())
    assert changed.shape == views.shape
    assert torch.equal(changed, augment(views, seeded()))
    weight = changed[:, 0, 0].flatten(1).clamp(min=-0.5) + 0.5
    weight = weight / weight.sum(1, keepdim=True)
    where = torch.cartesian_prod(torch.arange(32.0), torch.arange(32.0)) - 15.5  # row, column
    middle = weight @ where
    for axis in (0, 1):
        assert float(middle[:, axis].abs().max()) < 0.05 * 32 * 1.16 + 0.05  # cos + sin of 10 degrees
        assert float(middle[:, axis].std()) == pytest.approx(0.1 * 32 / math.sqrt(12), rel=0.1)
    second = torch.einsum("vp,pi,pj->vij", weight, where, where) - torch.einsum("vi,vj->vij", middle, middle)
    angle = torch.rad2deg(0.5 * torch.atan2(2 * second[:, 0, 1], second[:, 0, 0] - second[:, 1, 1]))
    assert float(angle.abs().max()) < 10.5
    assert float(angle.std()) == pytest.approx(20 / math.sqrt(12), rel=0.1)


def test_noise_and_brightness_are_as_large_as_is_said() -> None:
    flat = augment(torch.zeros(400, 1, 3, 16, 16), seeded(1))  # of grey, only these two are left
    assert float(flat.flatten(1).mean(1).std()) == pytest.approx(0.2 / math.sqrt(12), rel=0.1)
    assert float(flat[:, 0, :, 4:12, 4:12].std((1, 2, 3)).mean()) == pytest.approx(0.02 * math.sqrt(3), rel=0.35)


def test_the_colour_is_left_alone_and_a_mirror_is_asked_for() -> None:
    red = torch.full((200, 1, 3, 8, 8), -0.5)
    red[:, :, 0] = 0.5
    changed = augment(red, seeded()).mean((1, 3, 4))  # (200, 3)
    colourless = (changed[:, 0] - changed[:, 1]).abs() < 0.1
    assert 8 <= int(colourless.sum()) <= 36  # one in ten
    assert bool((changed[~colourless, 0] - changed[~colourless, 2] > 0.7).all())
    half = torch.full((200, 1, 3, 8, 8), -1.0)
    half[..., :4] = 1.0
    for flip, low, high in ((False, 0, 0), (True, 55, 105)):
        moved = augment(half, seeded(), flip)
        turned = moved[..., :4].mean((1, 2, 3, 4)) < moved[..., 4:].mean((1, 2, 3, 4))
        assert low <= int(turned.sum()) <= high


def test_losses_are_their_definitions() -> None:
    x = 1.5 * torch.randn(3, 2, 4, 5, generator=seeded(), dtype=torch.float64)
    expected = torch.zeros(3, dtype=torch.float64)
    outside, far = expected.clone(), expected.clone()
    for b in range(3):
        for c in range(2):
            for i in range(4):
                for j in range(5):
                    value = float(x[b, c, i, j])
                    right = float(x[b, c, i, j + 1]) - value if j < 4 else 0
                    below = float(x[b, c, i + 1, j]) - value if i < 3 else 0
                    expected[b] += (right**2 + below**2) / 40
                    over = max(0.0, abs(value) - 1)
                    outside[b] += over**2 / 40
                    far[b] += over / 40
    assert torch.allclose(total_variation(x), expected)
    assert torch.allclose(range_loss(x), outside)
    assert torch.allclose(saturation_loss(x), far)
    assert bool((outside > 0).all())


class Pixels(nn.Module):
    """A CLIP whose feature of an image is the mean of its colours, and that knows the texts "red" and "blue"."""

    def __init__(self) -> None:
        super().__init__()
        self.image = Patches()

    def image_features(self, x: Tensor) -> Tensor:
        return F.normalize(x.mean((2, 3)), dim=1)

    def text_features(self, texts: list[str]) -> Tensor:
        return torch.stack([torch.eye(3)[("red", "green", "blue").index(text)] for text in texts])


class Patches(nn.Module):
    image_size = 8

    def forward(self, x: Tensor, t: Tensor | None) -> tuple[Tensor, Tensor]:
        return x.mean((2, 3)), x.flatten(2).transpose(1, 2)


def test_the_distance_of_prompts_is_weighted_and_a_mean_over_cuts() -> None:
    clip, x = Pixels(), torch.zeros(2, 3, 8, 8)
    x[0, 0], x[1, 2] = 1.0, 1.0  # a red and a blue one
    targets, weights = targets_of(clip, [("red", 2.0), ("blue", -1.0)], [], None, seeded())
    found = prompt_distance(clip, x, 0.0, targets, weights, None, seeded())
    right = math.pi**2 / 8  # of a right angle
    assert torch.allclose(found, torch.tensor([-1.0, 2.0]) * right, atol=1e-6)
    cuts = Cuts(count=4, overview="[1]*1", inner="[1]*1", augment=False, grey="[0]*1")
    spread = prompt_distance(clip, x, 0.0, targets, weights, cuts, seeded())
    assert torch.allclose(spread, (found + right_of_grey(targets, weights)) / 2 * 0.5 + found / 2, atol=1e-5)
    own = targets[:, None].flip(0)  # each picture has a target of its own: blue for the red one
    assert torch.allclose(
        prompt_distance(clip, x, 0.0, own, torch.ones(1), None, seeded()), torch.full((2,), right), atol=1e-6
    )


def right_of_grey(targets: Tensor, weights: Tensor) -> Tensor:
    """What a colourless view is away, by weight."""
    return (spherical_distance(torch.ones(3), targets) * weights).sum()


def test_a_picture_is_a_prompt_by_its_cut_outs() -> None:
    clip, picture = Pixels(), torch.zeros(3, 8, 8)
    picture[1] = 1.0
    cuts = Cuts(count=8, augment=False, overview="[0]*1", inner="[1]*1", grey="[0]*1")
    targets, weights = targets_of(clip, [("red", 0.5)], [(picture, 0.5)], cuts, seeded())
    assert torch.allclose(targets, torch.eye(3)[[0] + [1] * 8], atol=1e-6)
    assert torch.allclose(weights, torch.tensor([0.5] + [0.5 / 8] * 8))


def test_the_pull_is_zero_at_the_picture_and_four_at_its_opposite() -> None:
    clip, x = Pixels(), torch.rand(2, 3, 8, 8, generator=seeded()) + 0.1
    assert torch.allclose(perceptual_pull(clip, x, x), torch.zeros(2), atol=1e-6)
    assert torch.allclose(perceptual_pull(clip, x, -3 * x), torch.full((2,), 4.0), atol=1e-5)
    assert float(perceptual_pull(clip, x, x[0])[1]) > 0.01


def test_more_cuts_make_a_gradient_of_less_variance() -> None:
    """Cut-outs are drawn alike and apart from each other: of n times as many the variance is an n-th."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GELU(), nn.Flatten(), nn.Linear(512, 6)).requires_grad_(False)

    class Reader(Pixels):
        def image_features(self, x: Tensor) -> Tensor:
            return F.normalize(net(x), dim=1)

    clip, target = Reader(), torch.eye(6)[:1]
    x = torch.randn(1, 3, 8, 8, generator=seeded())
    spread = []
    for count in (1, 4, 16):
        cuts, generator = Cuts(count=count, overview="[0]*1", inner="[1]*1", grey="[0]*1"), seeded(1)
        gradients = []
        for _ in range(200):
            y = x.clone().requires_grad_()
            loss = prompt_distance(clip, y, 0.0, target, torch.ones(1), cuts, generator)
            gradients.append(torch.autograd.grad(loss.sum(), y)[0])
        spread.append(float(torch.stack(gradients).var(0).sum()))
    assert spread[0] / spread[1] == pytest.approx(4, rel=0.25)
    assert spread[1] / spread[2] == pytest.approx(4, rel=0.25)
