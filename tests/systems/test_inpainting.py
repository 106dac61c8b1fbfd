"""Painting in holes: what is known stays, what replaced pixels miss on a law that is known, holes, edits, a painter."""

import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from flowlib import Field, MixtureField, sample_ode
from flowlib.cli import main
from flowlib.data import Scenes
from flowlib.data.pixels import read_mask, read_picture
from flowlib.plotting import png_of
from flowlib.recipes import change, find_recipe
from flowlib.runs import Run, evaluate_run, load_run, train
from flowlib.systems.edits import edits_of
from flowlib.systems.guides import inpainting_guide
from flowlib.systems.inpainting import KnownPixels, ReplacedPixels, random_regions
from flowlib.text.captions import read_caption

TINY = {
    "net": "unet",
    "net_args": {"channels": (8, 8), "depth": 1, "attention": (1,), "heads": 2, "patch": 2, "dim": 16, "gates": True},
    "text_width": 16, "text_depth": 1, "text_heads": 2, "batch_size": 16,
}  # fmt: skip


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(rho: float) -> MixtureField:
    """A normal law in the plane with correlation rho, near enough, as a mixture along its long axis."""
    place = torch.linspace(-4, 4, 41, dtype=torch.float64)
    long, narrow = math.sqrt(1 + rho), math.sqrt(1 - rho)
    means = (
        place[:, None] * torch.tensor([1.0, 1.0], dtype=torch.float64) / math.sqrt(2) * math.sqrt(long**2 - narrow**2)
    )
    return MixtureField(means, narrow, weights=torch.exp(-(place**2) / 2))


def filled(field: Field, at: float, count: int = 4000) -> Tensor:
    noise = torch.randn(count, 2, generator=seeded(0), dtype=torch.float64)
    image, mask = torch.tensor([at, 0.0], dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)
    return sample_ode(ReplacedPixels(field, image, mask, noise), noise, steps=60)


def test_replaced_pixels_keep_what_is_known_and_know_too_little_of_it() -> None:
    rho, at = 0.8, 1.5
    x = filled(normal(rho), at)
    assert torch.allclose(x[:, 0], torch.full((4000,), at, dtype=torch.float64), atol=1e-9)
    # The law asked for is N(rho at, 1 - rho^2). For a normal law the replaced ODE is linear, and solved by quadrature:
    # of x_2, d/dt x_2 = a(t) x_2 + b(t) x_1(t), where x_1 = t at + (1 - t) eps is known.
    times = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    mean, spread_own, spread_known, step = 0.0, 1.0, 0.0, 1 / 20_000
    for t in times[:-1].tolist():
        s = 1 - t
        v, c = t * t + s * s, t * t * rho  # of the law of x_t: variance and covariance
        det = v * v - c * c
        # E[z_2 - eps_2 | x] = (t rho, t - s) over the covariance of x_t, applied to x.
        a, b = ((t - s) * v - t * rho * c) / det, (t * rho * v - (t - s) * c) / det
        mean += step * (a * mean + b * t * at)
        spread_own += step * a * spread_own
        spread_known += step * (a * spread_known + b * s)
    noise = torch.randn(4000, 2, generator=seeded(0), dtype=torch.float64)
    expected = mean + spread_known * noise[:, 0] + spread_own * noise[:, 1]
    assert float((x[:, 1] - expected).abs().mean()) < 0.01
    # Another law than what was asked for: its mean is not even half way from 0 to where it should be.
    assert mean < 0.5 * rho * at


def test_replaced_pixels_are_right_where_the_rest_does_not_depend_on_them() -> None:
    means = torch.cartesian_prod(torch.tensor([-1.0, 1.0]), torch.tensor([-2.0, 2.0])).double()
    field = MixtureField(means, 0.3)
    x = filled(field, 1.0)
    assert abs(float((x[:, 1] > 0).double().mean()) - 0.5) < 0.03
    assert abs(float(x[:, 1].abs().mean()) - 2) < 0.03


def test_known_pixels_are_kept_and_the_rest_follows_the_field() -> None:
    field, at = normal(0.5), torch.tensor([0.7, 0.0], dtype=torch.float64)
    mask = torch.tensor([1.0, 0.0], dtype=torch.float64)
    kept = KnownPixels(field, lambda y: (at, mask))
    noise = torch.randn(50, 2, generator=seeded(1), dtype=torch.float64)
    for t in (0.0, 0.3, 0.9):
        data = kept.data(noise, t)
        assert bool((data[:, 0] == 0.7).all())
        assert torch.equal(data[:, 1], field.data(noise, t)[:, 1])
    x = sample_ode(kept, noise, steps=20, denoise_last=True)
    assert bool((x[:, 0] == 0.7).all())
    free = KnownPixels(field, lambda y: (at, torch.zeros_like(mask)))
    plain = sample_ode(field, noise, steps=20, denoise_last=True)
    assert torch.allclose(sample_ode(free, noise, steps=20, denoise_last=True), plain, atol=1e-9)


def test_wrong_shapes_of_what_is_known_are_named() -> None:
    noise = torch.zeros(4, 2)
    with pytest.raises(ValueError, match=r"image must have the shape of a sample, \(2,\), got \(3,\)"):
        ReplacedPixels(MixtureField(torch.zeros(1, 2), 1.0), torch.zeros(3), torch.zeros(2), noise)
    with pytest.raises(ValueError, match="x must have 4 samples"):
        ReplacedPixels(MixtureField(torch.zeros(1, 2), 1.0), torch.zeros(2), torch.zeros(2), noise).u(noise[:3], 0.5)


def test_regions_are_of_all_sizes_and_now_and_then_everything() -> None:
    masks = random_regions(4000, (16, 16), seeded(0))
    assert masks.shape == (4000, 1, 16, 16)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    unknown = 1 - masks.mean((1, 2, 3))
    assert 0.08 < float((unknown == 1).double().mean()) < 0.16
    assert float((unknown == 0).double().mean()) < 0.03
    for low, high in ((0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 0.999)):
        assert float(((unknown > low) & (unknown <= high)).double().mean()) > 0.05, (low, high)
    assert torch.equal(masks[:100], random_regions(4000, (16, 16), seeded(0))[:100])


def test_edits_ask_for_another_digit_where_one_is_and_leave_the_other() -> None:
    scenes = Scenes(split="test").first(300)
    edits = edits_of(scenes, 200)
    batch = scenes.batch(torch.arange(200))
    for i, (text, was) in enumerate(zip(edits.texts, batch["caption"], strict=True)):
        new, old = read_caption(text), read_caption(was)
        assert new.things[0].digit != old.things[0].digit
        assert new.things[0].colour != old.things[0].colour
        assert (new.things[0].size, new.things[0].place) == (old.things[0].size, old.things[0].place)
        assert new.things[1:] == old.things[1:]
        assert new.background == old.background
        assert bool(edits.rest[i]) == (len(new.things) == 2)
        for thing, other in zip(read_caption(edits.rest[i] or was).things, old.things[1:], strict=False):
            assert (thing.digit, thing.colour, thing.size) == (other.digit, other.colour, other.size)
    hole = edits.known[:, 0] == 0
    assert bool((hole | ~batch["masks"][:, 0]).all())  # the digit lies in its hole
    assert not bool((hole & batch["masks"][:, 1]).any())  # the other does not


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("painter") / "run"
    train(change(find_recipe("scenes-text"), **TINY, steps=60), folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def inpainter(painter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inpainter") / "run"
    recipe = change(find_recipe("scenes-inpainter"), **TINY, parts={"base": str(painter)}, steps=30)
    train(recipe, folder, progress=False)
    return folder


def test_it_starts_as_the_painter_it_is_made_of(painter: Path) -> None:
    base = load_run(painter)
    system = change(find_recipe("scenes-inpainter"), **TINY, parts={"base": str(painter)}, steps=30).system
    made = system.build(base.spec, {"base": base.module}, seeded(3))
    tokens = base.module.net.tokenizer(["a red seven", "a blue two"])
    x, t = torch.randn(2, 3, 16, 16, generator=seeded(0)), 0.4
    image = torch.randn(2, 4, 16, 16, generator=seeded(1))
    y = made.net.guide(tokens, image)  # type: ignore[operator, union-attr]
    assert torch.equal(made.u(x, t, y), base.module.u(x, t, tokens))  # type: ignore[operator]
    other = {**TINY, "text_depth": 2}
    system = change(find_recipe("scenes-inpainter"), **other, parts={"base": str(painter)}, steps=30).system
    with pytest.raises(ValueError, match="the part 'base' must have the settings of this one"):
        system.build(base.spec, {"base": base.module}, seeded(3))
    with pytest.raises(ValueError, match="must be a painter of the system glide"):
        system.build(base.spec, {"base": torch.nn.Linear(2, 2)}, seeded(3))


def test_an_inpainter_keeps_what_is_known_to_the_last_bit(inpainter: Path) -> None:
    run = load_run(inpainter)
    net = run.module.net
    batch = Scenes(split="test").batch(torch.arange(3))
    known = random_regions(3, (16, 16), seeded(0))
    y = net.guide(net.tokenizer(batch["caption"]), inpainting_guide(batch["x"], known))
    for options in ({"scale": 3.0}, {"scale": 1.0, "method": "ddim"}, {"method": "sde", "batch_size": 2}):
        images = run.sample(y, steps=4, **options)
        assert torch.equal(images * known, batch["x"] * known)
        assert bool(torch.isfinite(images).all())
    assert run.sample(count=2, steps=2).shape == (2, 3, 16, 16)  # nothing known, no caption


def test_the_report_of_edits_tells_right_from_wrong(inpainter: Path) -> None:
    rows = {row["samples"]: row for row in evaluate_run(load_run(inpainter), samples=60, scales=(2.0,), steps=2)}
    assert list(rows) == ["before", "no hole's digit", "w = 2", "replaced, w = 2"]
    assert float(rows["before"]["digit"]) < 0.1  # it is to become another
    assert float(rows["before"]["size"]) > 0.9
    assert float(rows["before"]["rest"]) > 0.9
    assert float(rows["w = 2"]["moved"]) == 0
    assert float(rows["replaced, w = 2"]["moved"]) < 1e-5


def test_paint_edits_a_picture_and_leaves_the_rest(inpainter: Path, painter: Path, tmp_path: Path) -> None:
    scene = Scenes(split="test").batch(torch.arange(1))["x"]
    (tmp_path / "scene.png").write_bytes(png_of(scene))
    mask = -torch.ones(1, 1, 16, 16)
    mask[..., :8, :8] = 1
    (tmp_path / "mask.png").write_bytes(png_of(mask))
    out = tmp_path / "edited.png"
    arguments = ["--edit", str(tmp_path / "scene.png"), "--mask", str(tmp_path / "mask.png"), "--out", str(out)]
    given = [*arguments, "--steps", "2", "--inpainter", str(inpainter)]
    assert main(["paint", "a small blue two at the upper left, on grey", "--model", str(painter), *given]) == 0
    edited = read_picture(out, (3, 16, 16))
    assert torch.equal(edited * (mask[0] < 0), scene[0] * (mask[0] < 0))
    assert not torch.equal(edited, scene[0])
    with Image.open(out) as picture:
        assert picture.size == (256, 256)
        assert picture.info["Description"] == "a small blue two at the upper left, on grey"
    first = out.read_bytes()
    assert main(["paint", "a small blue two at the upper left, on grey", "--model", str(inpainter), *given]) == 0
    assert out.read_bytes() == first


def test_bad_edits_are_one_line_and_write_nothing(
    inpainter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene, dark = torch.zeros(1, 3, 16, 16), -torch.ones(1, 1, 16, 16)
    for name, images in (("scene", scene), ("dark", dark), ("bright", -dark)):
        (tmp_path / f"{name}.png").write_bytes(png_of(images))
    (tmp_path / "small.png").write_bytes(png_of(-dark, side=32))
    (tmp_path / "text.png").write_text("no image")
    at = {name: str(tmp_path / f"{name}.png") for name in ("scene", "dark", "bright", "small", "text", "missing")}
    base = ["paint", "a two", "--out", str(tmp_path / "out.png"), "--model", str(inpainter), "--steps", "1"]
    for arguments, says in (
        (["--edit", at["scene"]], "--edit and --mask go together"),
        (["--mask", at["bright"]], "--edit and --mask go together"),
        ([], "give it --edit and --mask"),
        (["--edit", at["scene"], "--mask", at["small"]], "has 32 x 32 pixels, the picture"),
        (["--edit", at["scene"], "--mask", at["dark"]], "has no bright pixel"),
        (["--edit", at["scene"], "--mask", at["text"]], "is no image"),
        (["--edit", at["missing"], "--mask", at["bright"]], "is no file"),
        (["--edit", at["text"], "--mask", at["bright"]], "is no image"),
        (
            ["--edit", at["scene"], "--mask", at["bright"], "--clip", "conv"],
            "--clip must name a CLIP of noised pictures",
        ),
        (
            ["--edit", at["scene"], "--mask", at["bright"], "--upsampler", "zoo:judge"],
            "--upsampler zoo:judge reads no captions",
        ),
        (["--edit", at["scene"], "--mask", at["bright"], "--count", str(10**12)], "GiB"),
        (
            ["--edit", at["scene"], "--mask", at["bright"], "--model", "zoo:scenes-text", "--inpainter", "zoo:unclip"],
            "--inpainter must name a run of the system inpainter, got zoo:unclip",
        ),
    ):
        assert main([*base, *arguments]) == 2
        error = capsys.readouterr().err
        assert says in error, error
        assert error.count("\n") == 1
    assert not (tmp_path / "out.png").exists()


def test_a_mask_is_read_at_the_size_of_its_picture(tmp_path: Path) -> None:
    mask = -torch.ones(1, 1, 16, 16)
    mask[..., 3:9, 5:12] = 1
    (tmp_path / "mask.png").write_bytes(png_of(mask))
    (tmp_path / "scene.png").write_bytes(png_of(torch.zeros(1, 3, 16, 16)))
    assert torch.equal(read_mask(tmp_path / "mask.png", tmp_path / "scene.png", (3, 16, 16)), (mask[0] + 1) / 2)


def test_an_upsampler_learns_and_keeps_more_than_it_did(tmp_path: Path, painter: Path) -> None:
    settings = {**TINY, "net_args": TINY["net_args"] | {"patch": 4}}
    run: Run = train(change(find_recipe("scenes-upsampler"), **settings, steps=60), tmp_path / "run", progress=False)
    net = run.module.net
    assert net.shape == (3, 16, 16)
    batch = Scenes(32).batch(torch.arange(4))
    small = run.recipe.system.laid(batch["x"], seeded(0))  # type: ignore[attr-defined]
    assert torch.allclose((small + 1) * 127.5, ((small + 1) * 127.5).round(), atol=1e-3)
    assert float((small - torch.nn.functional.avg_pool2d(batch["x"], 2)).abs().max()) < 1 / 255 + 1e-6
    images = run.sample(net.guide(net.tokenizer(batch["caption"]), small), steps=3, scale=2.0)
    assert images.shape == (4, 3, 32, 32)
    rows = {row["samples"]: row for row in evaluate_run(run, samples=40, scales=(1.0,), steps=2)}
    assert rows["test scenes"]["detail"] == pytest.approx(1)
    assert float(rows["test scenes"]["kept"]) > 45  # but for the rounding to 8 bits
    assert rows["bilinear"]["detail"] == 0
    assert set(rows) == {"test scenes", "bilinear", "w = 1"}
    read = {name: float(row["all"]) for name, row in rows.items()}  # by the judge
    assert read["test scenes"] > max(0.75, read["w = 1"] + 0.1)
    out = tmp_path / "large.png"
    arguments = ["paint", "a red seven", "--model", str(painter), "--steps", "2", "--out", str(out)]
    assert main([*arguments, "--upsampler", str(tmp_path / "run")]) == 0
    assert read_picture(out, (3, 32, 32)).shape == (3, 32, 32)
