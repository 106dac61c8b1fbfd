"""Disco Diffusion on fields that are known exactly, where each step can be computed by hand; and its command."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from flowlib import GaussianPath, MixtureField
from flowlib.cli import main
from flowlib.fields import Model
from flowlib.nets import UNet
from flowlib.plotting import picture_grid, save_figure
from flowlib.recipes import change, find_recipe
from flowlib.runs import train
from flowlib.schedules import Trigonometric
from flowlib.systems.cut_schedule import Cuts
from flowlib.systems.disco_sampling import Disco, Target

SHAPE = (3, 8, 8)
STD = 0.5
ONE = torch.ones(1, dtype=torch.float64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(level: float = 0.0) -> MixtureField:
    """Pictures of one Gaussian around an even grey."""
    mean = torch.full((1, *SHAPE), level, dtype=torch.float64)
    return MixtureField(mean, torch.tensor([STD], dtype=torch.float64), path=GaussianPath(Trigonometric()))


def noise_of(count: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(count, *SHAPE, generator=seeded(seed), dtype=torch.float64)


class Colours(nn.Module):
    """A CLIP whose feature of a picture is the mean of its colours, and of a place its colour."""

    class Places(nn.Module):
        image_size = 8

        def forward(self, x: Tensor, t: Tensor | None) -> tuple[Tensor, Tensor]:
            return x.mean((2, 3)), x.flatten(2).transpose(1, 2)

    def __init__(self) -> None:
        super().__init__()
        self.image = self.Places()

    def image_features(self, x: Tensor) -> Tensor:
        return F.normalize(x.mean((2, 3)), dim=1)


def asked(*rows: int, weights: tuple[float, ...] = ()) -> Target:
    """Colours by their numbers, 0 red, 1 green, 2 blue."""
    return torch.eye(3, dtype=torch.float64)[list(rows)], torch.tensor(weights or (1.0,) * len(rows)).double()


PLAIN = Disco(steps=8, eta=0.0, cuts=None, bound=None, range=0.0)


def by_hand(field: MixtureField, noise: Tensor, steps: int, gradient: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """DDIM's predicted clean pictures under a gradient with respect to D, all in closed forms; the result last."""
    x, seen = noise, []
    for k in range(steps):
        t, s = (torch.tensor((k + i) / steps, dtype=torch.float64) for i in (0, 1))
        (alpha, beta), (alpha_s, beta_s) = field.path.levels(t), field.path.levels(s)
        gain = alpha * STD**2 / (alpha**2 * STD**2 + beta**2)
        mean = field.means[0]
        data = mean + gain * (x - alpha * mean)
        eps = (x - alpha * data) / beta
        if k:
            pull = gain * gradient(data)  # through D, whose derivative in x is the gain
            data, eps = data + beta**2 / alpha * pull, eps - beta * pull
        seen.append(data)
        x = alpha_s * data + beta_s * eps
    return [*seen, x]


def test_each_step_is_what_the_loss_of_range_makes_of_it() -> None:
    field, noise = gaussian(1.5), noise_of()
    guide = Disco(steps=8, eta=0.0, cuts=None, bound=None, range=400.0)
    found = guide.sample(field, [], [], noise, trajectory=True)
    size = math.prod(SHAPE)
    expected = by_hand(field, noise, 8, lambda data: -400 * 2 * (data - data.clamp(-1, 1)) / size)
    assert torch.allclose(found, torch.stack(expected), atol=1e-8)
    free = PLAIN.sample(field, [], [], noise)
    assert float((free.abs() - 1).clamp(min=0).mean()) > 1.5 * float((found[-1].abs() - 1).clamp(min=0).mean())


def test_each_step_is_what_the_distance_of_colours_makes_of_it() -> None:
    field, noise, (target, _) = gaussian(0.2), noise_of(), asked(0)
    guide = Disco(steps=8, eta=0.0, cuts=None, bound=None, range=0.0, scale=3.0)

    def pull(data: Tensor) -> Tensor:
        """Minus the gradient of half the squared angle: the angle, along the great circle to the target."""
        mean = data.mean((2, 3))
        length = mean.norm(dim=1, keepdim=True)
        own = mean / length
        cosine = own @ target.T
        turn = torch.acos(cosine) / (1 - cosine**2).sqrt() * (target - cosine * own) / length
        return 3.0 * (turn / 64)[:, :, None, None].expand_as(data)

    found = guide.sample(field, [Colours()], [asked(0)], noise, trajectory=True)
    assert torch.allclose(found, torch.stack(by_hand(field, noise, 8, pull)), atol=1e-8)
    red = found[-1].mean((2, 3))
    plain = PLAIN.sample(field, [], [], noise).mean((2, 3))
    assert bool((red[:, 0] - red[:, 2] > plain[:, 0] - plain[:, 2] + 0.03).all())


def test_the_bound_is_the_size_of_what_is_added_and_keeps_its_direction() -> None:
    field, noise = gaussian(), noise_of()
    t, half = torch.tensor(0.5, dtype=torch.float64), 1 / 2
    x = PLAIN.sample(field, [], [], noise, trajectory=True)[0]  # D at t = 0, the mean
    alpha, beta = field.path.levels(t)
    state = alpha * x + beta * noise
    plain = field.data(state, half)
    added = []
    for bound in (None, 1e-3, 1e3):
        guide = Disco(steps=2, eta=0.0, cuts=None, bound=bound, range=0.0, scale=50.0)
        seen = guide.sample(field, [Colours()], [asked(0)], noise, trajectory=True)
        added.append((seen[1] - plain) * alpha / beta**2)
    size = [one.square().mean((1, 2, 3)).sqrt() for one in added]
    assert bool((size[0] > 2e-3).all())
    assert torch.allclose(size[1], torch.full((3,), 1e-3, dtype=torch.float64), rtol=1e-6)
    assert torch.allclose(added[1] * (size[0] / 1e-3)[:, None, None, None], added[0], rtol=1e-6)
    assert torch.allclose(added[2], added[0])


def test_weights_of_prompts_and_several_clips_add_up() -> None:
    clip, x, t = Colours(), noise_of(), torch.full((3,), 0.5, dtype=torch.float64)
    guide = Disco(cuts=None, scale=2.0, range=0.0)

    def energy(clips: list, targets: list) -> Tensor:
        return guide.energy(clips, targets).log_prob(x, t, None)

    red, blue = energy([clip], [asked(0)]), energy([clip], [asked(2)])
    assert torch.allclose(energy([clip], [asked(0, 2, weights=(2.0, -0.5))]), 2 * red - 0.5 * blue)
    assert torch.allclose(energy([clip, clip], [asked(0), asked(2)]), red + blue)
    all_losses = Disco(cuts=None, scale=0.0, variation=2.0, range=3.0, saturation=5.0)
    bent = 2 * x
    down, right = bent.diff(dim=2).square().sum((1, 2, 3)), bent.diff(dim=3).square().sum((1, 2, 3))
    over = (bent.abs() - 1).clamp(min=0)
    expected = 2 * (down + right) / 192 + 3 * over.square().mean((1, 2, 3)) + 5 * over.mean((1, 2, 3))
    assert torch.allclose(all_losses.energy([], []).log_prob(bent, t, None), -expected)


def test_a_seed_is_one_set_of_pictures() -> None:
    field, clip, noise = gaussian(), Colours(), noise_of()
    cuts = Cuts(count=3)

    def drawn(**settings: object) -> Tensor:
        guide = Disco(**{"steps": 5, "scale": 50.0, "cuts": None, "eta": 0.0, **settings})
        return guide.sample(field, [clip], [asked(0)], noise)

    assert torch.equal(drawn(seed=0), drawn(seed=1))  # without cut-outs and new noise nothing is drawn
    for settings in ({"cuts": cuts}, {"eta": 1.0}):
        assert torch.equal(drawn(seed=0, **settings), drawn(seed=0, **settings))
        assert float((drawn(seed=0, **settings) - drawn(seed=1, **settings)).abs().max()) > 1e-4


def test_the_cut_outs_follow_their_schedule() -> None:
    class Wide(Cuts):
        def views(self, x: Tensor, t: float, size: int, generator: torch.Generator) -> Tensor:
            times.append((round(t, 3), self.at(t)[0]))
            return super().views(x, t, size, generator)

    times: list[tuple[float, int]] = []
    guide = Disco(steps=10, eta=0.0, cuts=Wide(count=4))
    guide.sample(gaussian(), [Colours()], [asked(0)], noise_of())
    assert times == [(k / 10, 3 if k < 4 else 1) for k in range(1, 10)]


def test_a_picture_is_where_skipped_steps_start() -> None:
    field, noise, clip = gaussian(), noise_of(), Colours()
    init = torch.rand(SHAPE, generator=seeded(5), dtype=torch.float64)
    free = {"steps": 10, "eta": 0.0, "cuts": None, "range": 0.0, "scale": 0.0, "init_scale": 0.0}
    done = Disco(**free, skip=10).sample(field, [clip], [asked(0)], noise, init=init)
    assert torch.equal(done, init.expand(3, -1, -1, -1))
    for skip in (0, 4, 9):
        seen = Disco(**free, skip=skip).sample(field, [clip], [asked(0)], noise, init=init, trajectory=True)
        assert len(seen) == 11 - skip
        alpha, beta = field.path.levels(torch.tensor(skip / 10, dtype=torch.float64))
        assert torch.allclose(seen[0], field.data(alpha * init + beta * noise, skip / 10), atol=1e-9)
    ignored = Disco(**free, skip=4).sample(field, [clip], [asked(0)], noise)
    assert torch.allclose(ignored, Disco(**{**free, "skip": 0}).sample(field, [clip], [asked(0)], noise))
    with pytest.raises(ValueError, match=r"init must have shape \(3, 8, 8\), got \(3, 4, 4\)"):
        Disco().sample(field, [clip], [asked(0)], noise, init=init[:, :4, :4])


def test_the_pull_holds_the_picture() -> None:
    field, noise, clip = gaussian(), noise_of(), Colours()
    init = torch.rand(SHAPE, generator=seeded(5), dtype=torch.float64) - 0.5
    gaps = []
    for pull in (0.0, 1000.0):
        guide = Disco(steps=10, eta=0.0, cuts=None, scale=0.0, init_scale=pull, skip=2, bound=2.0)
        x = guide.sample(field, [clip], [asked(0)], noise, init=init)
        gaps.append(float((F.normalize(x, dim=1) - F.normalize(init, dim=0)).square().sum(1).mean()))
    assert gaps[1] < 0.7 * gaps[0]


def test_a_secondary_flow_is_looked_through_in_place_of_the_first() -> None:
    """An equal one guides as the first does; and the first is never differentiated then."""
    noise, clip = noise_of(), Colours()
    guide = Disco(steps=6, eta=0.0, cuts=None, scale=30.0)
    alone = guide.sample(gaussian(), [clip], [asked(0)], noise)
    assert torch.allclose(guide.sample(gaussian(), [clip], [asked(0)], noise, secondary=gaussian()), alone, atol=1e-9)
    other = guide.sample(gaussian(), [clip], [asked(0)], noise, secondary=gaussian(0.4))
    assert float((other - alone).abs().max()) > 1e-3
    graphs = {"first": 0, "second": 0}
    nets = {}
    for name in graphs:
        nets[name] = UNet(3, (8,), 1, classes=None, heads=2, dim=8).requires_grad_(False)
        nets[name].register_forward_pre_hook(
            lambda module, arguments, name=name: graphs.update({name: graphs[name] + arguments[0].requires_grad})
        )
    fields = {name: Model(net, predicts="v") for name, net in nets.items()}
    guide.sample(
        fields["first"], [clip], [(torch.eye(3)[:1], torch.ones(1))], noise.float(), secondary=fields["second"]
    )
    assert graphs == {"first": 0, "second": 5}


def test_each_picture_may_have_prompts_of_its_own() -> None:
    field, noise, clip = gaussian(), noise_of(), Colours()
    guide = Disco(steps=6, eta=0.0, cuts=None, scale=30.0)
    own = torch.eye(3, dtype=torch.float64)[[0, 1, 2]][:, None]
    together = guide.sample(field, [clip], [(own, ONE)], noise)
    for i in range(3):
        alone = guide.sample(field, [clip], [asked(i)], noise[i : i + 1])
        assert torch.allclose(together[i], alone[0], atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"steps": 0}, "steps must be an integer >= 1"),
        ({"eta": 2.0}, "eta must be a finite number"),
        ({"bound": 0.0}, "bound must be a finite number"),
        ({"scale": math.nan}, "scale must be a finite number"),
        ({"steps": 5, "skip": 6}, "skip must be at most steps = 5, got 6"),
    ],
)
def test_bad_settings_are_named(settings: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Disco(**settings)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flow of scenes and two CLIPs, all hardly trained."""
    folder = tmp_path_factory.mktemp("disco")
    net = {"channels": (8, 16), "depth": 1, "heads": 2, "dim": 16, "attention": (1,)}
    common = {"pictures": False, "progress": False}
    train(change(find_recipe("scenes-secondary"), steps=2, batch_size=8, net_args=net), folder / "flow", **common)
    texts = {"width": 16, "depth": 1, "heads": 2, "embedding": 8, "steps": 2, "batch_size": 8}
    images = {
        "clip-vit": {"patch": 8, "width": 16, "depth": 1, "heads": 2},
        "clip-conv": {"channels": (8,), "heads": 2},
    }
    for name, arguments in images.items():
        train(change(find_recipe(name), image_args=arguments, **texts), folder / name, **common)
    return folder


def paint(runs: Path, out: Path, *arguments: str, clip: str = "clip-vit") -> int:
    clips = ",".join(str(runs / name) for name in clip.split(","))
    common = ["--model", str(runs / "flow"), "--clip", clips, "--out", str(out), "--steps", "4", "--cuts", "4"]
    return main(["disco", *common, *arguments])


def test_the_command_writes_the_picture_the_way_and_a_film(runs: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "made" / "disco.png"
    arguments = ["a red seven:2", "blue:-0.5"]
    assert paint(runs, out, *arguments, "--count", "2", clip="clip-vit,clip-conv") == 0
    said = capsys.readouterr().out
    way, film = out.with_name("disco-way.png"), out.with_suffix(".gif")
    assert all(str(path) in said for path in (out, way, film))
    assert sorted(path.name for path in out.parent.iterdir()) == ["disco-way.png", "disco.gif", "disco.png"]
    with Image.open(film) as gif, Image.open(way) as sheet, Image.open(out) as picture:
        assert gif.n_frames == 5
        assert sheet.width == 5 * 96 + 4 * 8  # five pictures
        assert picture.width == 2 * 256 + 8
    again, other = tmp_path / "again.png", tmp_path / "other.png"
    assert paint(runs, again, *arguments, "--count", "2", clip="clip-vit,clip-conv") == 0
    assert again.read_bytes() == out.read_bytes()
    assert paint(runs, other, *arguments, "--count", "2", "--seed", "1", clip="clip-vit,clip-conv") == 0
    assert other.read_bytes() != out.read_bytes()


def test_a_folder_in_the_way_of_one_file_leaves_the_others(runs: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "disco.png"
    out.write_bytes(b"before")
    (tmp_path / "disco.gif").mkdir()
    assert paint(runs, out, "a red seven") == 2
    assert "disco.gif cannot be written (it is a folder)" in capsys.readouterr().err
    assert out.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disco.gif", "disco.png"]


def test_the_command_takes_pictures_to_start_from_and_to_be_like(runs: Path, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    save_figure(picture_grid(torch.rand(1, 3, 16, 16, generator=seeded()) * 2 - 1), picture)
    out = tmp_path / "disco.png"
    more = ["--init", str(picture), "--skip", "4", "--images", f"{picture}:0.5", "--secondary", str(runs / "flow")]
    assert paint(runs, out, "a red seven", *more) == 0  # all steps skipped: the picture itself
    done = out.read_bytes()
    assert paint(runs, out, "a blue two", "--init", str(picture), "--skip", "4", "--cuts", "0") == 0
    assert out.read_bytes() == done
    assert paint(runs, out, "a red seven", *more[:3], "2", *more[4:]) == 0
    assert out.read_bytes() != done


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a red seven:two"], "the weight of a prompt must be a number behind its last colon, got 'two'"),
        (["a", "b:-1"], "the weights of prompts must not sum to 0"),
        (["a:1e308", "b:1e308"], "the weight of a prompt must be a number behind its last colon, got '1e308'"),
        ([" "], "a prompt must not be empty"),
        (["x" * 100], "texts must have at most 30 tokens"),
        (["a", "--images", "none.png"], "none.png is no file"),
        (["a", "--init", "none.png", "--skip", "0"], "none.png is no file"),
        (["a", "--init", "none.png", "--skip", "9"], "skip must be at most steps = 4, got 9"),
        (["a", "--overview", "12"], "a schedule must look like"),
        (["a", "--skip", "2"], "--skip only goes with --init"),
        (["a", "--cuts", "0", "--inner", "[4] * 1000"], "--inner does not go with --cuts 0"),
        (["a", "--cuts", "-1"], "cuts must be an integer >= 0"),
        (["a", "--out", "disco.mp4"], "--out must be a picture"),
        (["a", "--clip", "vit,,conv"], "--clip must name CLIPs"),
        (["a", "--clip", "nobody"], "the zoo has no 'clip-nobody'"),
        (["a", "--secondary", "zoo:nobody"], "the zoo has no 'nobody'"),
        (["a", "--secondary", "zoo:judge"], "--secondary must name a flow of pictures (3, 16, 16), got zoo:judge"),
        (["a", "--secondary", "zoo:digits"], "--secondary must name a flow of pictures (3, 16, 16), got zoo:digits"),
        (["a", "--eta", "2"], "eta must be a finite number"),
        (["a", "--count", "0"], "count must be an integer >= 1"),
        (["a", "--bound", "0", "--scale", "1e30"], "have thrown a picture off, to what are no numbers: lower --scale"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert paint(runs, tmp_path / "new" / "disco.png", *arguments) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_no_flow_and_one_that_is_no_clip_are_refused(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert paint(runs, tmp_path / "a.png", "a", "--model", str(runs / "clip-vit")) == 2
    assert "disco needs a flow of pictures" in capsys.readouterr().err
    assert paint(runs, tmp_path / "a.png", "a", clip="flow") == 2
    assert "--clip must name a CLIP" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
