"""SAM as a system: what is trained, on what, the report, and `flowlib segment` with all that it refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from flowlib.cli import main
from flowlib.data import Dataset, Scenes
from flowlib.data.pixels import read_mask, read_picture
from flowlib.nets.mae import MaskedAutoencoder
from flowlib.plotting import png_of
from flowlib.recipes import change, find_recipe
from flowlib.runs import Run, evaluate_run, load_run, train
from flowlib.runs.run import build
from flowlib.systems.mae import MAEStage, MAESystem, hidden_error, normalised_patches
from flowlib.systems.sam import SAM, SAMSystem
from flowlib.systems.segmenting import Frame
from flowlib.training import Turn

SIZES = {"width": 8, "depth": 1, "heads": 2}
TINY = {**SIZES, "dim": 8, "decoder_heads": 2, "decoder_hidden": 8, "clicks": 1, "targets": 1, "batch_size": 8}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def turn(count: int = 8, seed: int = 0) -> Turn:
    return Turn(torch.arange(count), slice(None), seeded(seed))


# --- the masked autoencoder


def test_normalised_patches_have_mean_0_and_variance_1_and_flat_ones_are_0() -> None:
    patches = torch.randn(3, 5, 12, generator=seeded(0)).double()
    patches[1, 2] = 0.3
    found = normalised_patches(patches)
    assert torch.allclose(found.mean(2), torch.zeros(3, 5).double(), atol=1e-12)
    variance = torch.ones(3, 5).double()
    variance[1, 2] = 0
    assert torch.allclose(found.var(2), variance, atol=1e-12)
    assert torch.allclose(found, normalised_patches(7 * patches - 2), atol=1e-9)


def test_the_error_is_that_of_hidden_patches_alone() -> None:
    predicted = torch.randn(2, 6, 3, generator=seeded(0)).double().requires_grad_()
    target, keep = torch.zeros(2, 6, 3).double(), torch.tensor([[0, 4], [1, 2]])
    hidden = torch.tensor([[1, 2, 3, 5], [0, 3, 4, 5]])
    loss = hidden_error(predicted, target, keep)
    expected = predicted.gather(1, hidden[..., None].expand(-1, -1, 3)).square().mean()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-12)
    (gradient,) = torch.autograd.grad(loss, predicted)
    moved = gradient.abs().amax(2) > 0
    assert moved.tolist() == [[i in row for i in range(6)] for row in hidden.tolist()]
    with pytest.raises(ValueError, match="keep must be fewer than 6 patches"):
        hidden_error(predicted, target, torch.arange(6).expand(2, 6))


def test_pre_training_is_a_stage_whose_decoder_is_thrown_away() -> None:
    stage = MAEStage(steps=2, batch_size=8, decoder_width=8, decoder_depth=1, decoder_heads=2)
    system, scenes = SAMSystem(pretraining=stage, **{k: v for k, v in TINY.items() if k != "batch_size"}), Scenes()
    module = system.build(scenes.spec, {}, seeded(0))
    first, last = system.stages(module, scenes, {})
    assert [first.name, last.name] == ["mae", "sam"]
    assert isinstance(first.task.module, MaskedAutoencoder)
    assert first.task.module.encoder is module.image_encoder.vit
    other = MAESystem(**SIZES, decoder_width=8, decoder_depth=1, decoder_heads=2).build(scenes.spec, {}, seeded(1))
    first.finish(other)
    for name, value in module.image_encoder.vit.state_dict().items():
        assert torch.equal(value, other.encoder.state_dict()[name]), name
    assert not any("decoder" in name for name in module.image_encoder.state_dict())


@pytest.fixture(scope="module")
def mae(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("mae") / "run"
    small = {**SIZES, "decoder_width": 8, "decoder_depth": 1, "decoder_heads": 2, "batch_size": 8, "steps": 4}
    return train(change(find_recipe("mae"), **small), folder, progress=False)


@pytest.fixture(scope="module")
def run(mae: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("sam") / "run"
    parts = {"mae": str(mae.folder), "clip": "zoo:clip-conv"}
    return train(change(find_recipe("sam"), **TINY, pretraining=None, parts=parts, steps=4), folder, progress=False)


def test_mae_reports_its_error_and_draws_itself(mae: Run) -> None:
    rows = evaluate_run(mae, samples=64)
    assert [row["patches"] for row in rows] == ["filled in", "a mean patch"]
    assert 0 < rows[0]["error"] < 2
    assert (mae.folder / "samples").is_dir()


# --- the system


def test_sam_begins_with_the_encoder_of_its_part(mae: Run) -> None:
    system = SAMSystem(parts={"mae": "x"}, **{k: v for k, v in TINY.items() if k != "batch_size"})
    module = system.build(Scenes().spec, {"mae": mae.module}, seeded(0))
    for name, value in mae.module.encoder.state_dict().items():
        assert torch.equal(value, module.image_encoder.vit.state_dict()[name])
    with pytest.raises(ValueError, match="encoder of the patch, width and depth"):
        SAMSystem(parts={"mae": "x"}).build(Scenes().spec, {"mae": mae.module}, seeded(0))
    with pytest.raises(ValueError, match="'mae' must be a run of mae"):
        SAMSystem(parts={"mae": "x"}).build(Scenes().spec, {"mae": nn.Linear(1, 1)}, seeded(0))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"masks": 0}, "masks must be"),
        ({"rough": 0.5, "text": 0.6}, "text must be"),
        ({"text_from": "image"}, "text_from must be one of crop, caption"),
        ({"parts": {"gan": "x"}}, "parts must be mae and clip"),
        ({"pretraining": MAEStage(steps=1), "parts": {"mae": "x"}}, "pretraining must be None"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SAMSystem(**settings)


def test_first_prompts_come_in_their_shares() -> None:
    system = SAMSystem(rough=0.1, text=0.2)
    chances = [(i + 0.5) / 1000 for i in range(1000)]
    with_text = [system.first(chance, object()) for chance in chances]
    assert [with_text.count(kind) for kind in ("mask", "text", "point", "box")] == [100, 200, 350, 350]
    without = [system.first(chance, None) for chance in chances]
    assert [without.count(kind) for kind in ("mask", "text", "point", "box")] == [100, 0, 450, 450]


def test_all_masks_learn_at_first_and_then_the_best_alone(run: Run) -> None:
    """The weights of the three masks' own networks have a gradient early, and later one network of the three alone."""
    reached = []
    for step in (0, 99):
        module = build(run.recipe, run.spec, run.parts)
        one = Turn(torch.arange(1), slice(None), seeded(1), step, 100)
        run.recipe.system.loss(module, Scenes(), None, one)["loss"].backward()
        last = [module.mask_decoder.vectors[i][-1].weight.grad for i in (1, 2, 3)]
        reached.append(sum(gradient is not None and bool(gradient.any()) for gradient in last))
    assert reached == [3, 1]


def test_the_loss_falls_and_moves_everything_but_the_frequencies(run: Run) -> None:
    module = build(run.recipe, run.spec, run.parts)
    system, data = run.recipe.system, Scenes()
    optimiser = torch.optim.Adam(module.parameters(), 1e-2)
    moved: set[str] = set()
    losses = []
    before = module.prompt_encoder.places.frequencies.clone()
    for step in range(24):
        loss = system.loss(module, data, run.parts["clip"], turn(8, step))
        optimiser.zero_grad()
        loss["loss"].backward()
        moved |= {name for name, p in module.named_parameters() if p.grad is not None and bool(p.grad.any())}
        optimiser.step()
        losses.append(float(loss["mask"].detach()))
    assert sum(losses[-6:]) < 0.9 * sum(losses[:6])
    assert moved == {name for name, _ in module.named_parameters()}
    assert torch.equal(module.prompt_encoder.places.frequencies, before)


def test_the_same_turn_is_the_same_loss_whoever_computes_it(run: Run) -> None:
    """Two processes that compute half of a batch each draw what one process draws for all of it."""
    system, data = run.recipe.system, Scenes()
    whole, halves = [], []
    for parts in ([slice(None)], [slice(0, 4), slice(4, 8)]):
        for part in parts:
            one = Turn(torch.arange(8), part, seeded(3))
            (whole if len(parts) == 1 else halves).append(float(system.loss(run.module, data, None, one)["loss"]))
    assert whole[0] == pytest.approx(sum(halves) / 2, rel=1e-4)


def test_data_with_regions_of_its_own_are_learned_too(tmp_path: Path) -> None:
    scenes = Scenes().first(12)
    regions = torch.zeros(12, 2, 16, 16, dtype=torch.bool)
    regions[:, 0] = scenes.batch(torch.arange(12))["masks"].any(1)
    regions[3] = False  # of which nobody has drawn anything
    own = Dataset(scenes.images, name="own", more={"regions": regions})
    recipe = change(find_recipe("sam"), **TINY, pretraining=None, parts={}, steps=2)
    trained = train(recipe, tmp_path / "run", data=own, progress=False)
    assert isinstance(trained.module, SAM)
    with pytest.raises(ValueError, match="SAM needs scenes, or data with a column 'regions'"):
        train(change(recipe, data="digits"), tmp_path / "digits", progress=False)


def test_the_report_has_a_row_for_each_kind_of_prompt(run: Run) -> None:
    rows = evaluate_run(run, samples=40, everything=2, repetitions=1)
    names = [row["prompt"] for row in rows]
    assert names == ["one point", "three points", "box", "mask", "text", "embedding", "everything"]
    for row in rows[:5]:
        assert 0 <= row["mIoU"] <= 1
        assert row["ms"] > 0
    for row in (rows[0], rows[2], rows[3], rows[4]):
        assert row["best"] >= row["mIoU"]
    assert 0 <= rows[-1]["recall"] <= 1


# --- flowlib segment


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "scene.png"
    path.write_bytes(png_of(Scenes(split="test").batch(torch.arange(1))["x"]))  # 256 x 256
    return path


def segmented(run: Run, *arguments: object) -> int:
    return main(["segment", *map(str, arguments), "--model", str(run.folder)])


def test_a_point_becomes_a_mask_of_the_pictures_size(
    run: Run, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "mask.png"
    assert segmented(run, picture, "--point", "130,120", "--out", out, "--three") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [str(tmp_path / f"mask{end}.png") for end in ("", "-2", "-3")]
    assert all(" predicted IoU " in line and " stability " in line for line in lines)
    with Image.open(out) as file:
        assert file.size == (256, 256)
    x = read_picture(picture, (3, 16, 16))
    points = torch.tensor([[[130.5 / 16 - 0.5, 120.5 / 16 - 0.5]]])
    with torch.no_grad():
        logits, iou = run.module(x[None], points, torch.tensor([[1]]))
    best = logits[0, iou[0].argmax()] > 0
    assert torch.equal(read_picture(out, (1, 16, 16))[0] > 0, best)
    if bool(best.any()):
        assert torch.equal(read_mask(out, picture, (3, 16, 16))[0] > 0, best)  # which `paint --edit` reads
    assert segmented(run, picture, "--point", "130,120", "--out", out, "--grow", "2") == 0
    y, x = best.nonzero(as_tuple=True)
    near = [[bool(((y - i).abs().maximum((x - j).abs()) <= 2).any()) for j in range(16)] for i in range(16)]
    assert torch.equal(read_picture(out, (1, 16, 16))[0] > 0, torch.tensor(near))


def test_several_prompts_are_answered_by_the_single_mask(run: Run, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "mask.png"
    prompts = ["--point", "100,100", "--not", "20,30", "--box", "16,32,192,208", "--text", "a red seven"]
    assert segmented(run, picture, *prompts, "--out", out) == 0
    assert not (tmp_path / "mask-2.png").exists()
    points = (torch.tensor([[[100.5, 100.5], [20.5, 30.5]]]) / 16) - 0.5
    text = run.parts["clip"].text_features(["a red seven"])
    box = torch.tensor([[1.0, 2.0, 11.0, 12.0]])
    with torch.no_grad():
        x = read_picture(picture, (3, 16, 16))[None]
        logits, _ = run.module(x, points, torch.tensor([[1, 0]]), box, None, text, several=False)
    assert torch.equal(read_picture(out, (1, 16, 16))[0] > 0, logits[0, 0] > 0)


def test_everything_is_a_picture_of_each_mask(run: Run, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.png"
    loose = ["--everything", "--side", "4", "--least-iou", "0", "--least-stability", "0", "--out", out]
    status = segmented(run, picture, *loose)
    assert status in (0, 2)  # an untrained network may rate all of its masks below 0
    assert out.exists() == (status == 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--point", "256,10"], "--point must lie in the picture, whose pixels are 0,0 to 255,255, got 256,10"),
        (["--point", "10,-1"], "--point must lie in the picture, whose pixels are 0,0 to 255,255, got 10,-1"),
        (["--point", "255.5,10"], "--point must lie in the picture, whose pixels are 0,0 to 255,255, got 255.5,10"),
        (["--point", "1,1", "--side", "4"], "--side only goes with --everything"),
        (["--point", "1,1", "--text", " "], "--text must not be blank"),
        (["--everything", "--three"], "--three does not go with --everything"),
        (["--not", "10,300"], "--not must lie in the picture"),
        (["--point", "10"], "--point must be X,Y, got '10'"),
        (["--point", "nan,1"], "--point must be X,Y, got 'nan,1'"),
        (["--box", "5,5,5,9"], "--box must have X0 < X1 and Y0 < Y1, got 5,5,5,9: it is empty"),
        (["--box", "0,0,257,9"], "--box must lie in the picture"),
        (["--box", "0,0,9"], "--box must be X0,Y0,X1,Y1"),
        ([], "say what to cut out"),
        (["--text", " "], "say what to cut out"),
        (["--everything", "--text", "a two"], "--everything goes without --point, --not, --box, --mask and --text"),
        (["--point", "1,1", "--point", "2,2", "--three"], "--three goes with one prompt"),
        (["--point", "1,1", "--out", "mask.jpg"], "--out must be a picture, such as mask.png"),
        (["--everything", "--least-iou", "2"], "least_iou must be"),
        (["--everything", "--grow", "1"], "--grow does not go with --everything"),
        (["--point", "1,1", "--grow", "-1"], "grow must be an integer >= 0"),
        (["--everything", "--side", "4", "--least-iou", "1"], "no mask is good enough"),
        (["--mask", "none.png"], "none.png is no file"),
    ],
)
def test_what_does_not_fit_is_one_line_and_nothing_is_written(
    run: Run, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture, words: list[str], said: str
) -> None:
    before = sorted(tmp_path.iterdir())
    out = [] if "--out" in words else ["--out", tmp_path / "mask.png"]
    assert segmented(run, picture, *words, *out) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_text_needs_a_clip(mae: Run, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    plain = change(find_recipe("sam"), **TINY, pretraining=None, parts={}, steps=1)
    folder = train(plain, tmp_path / "plain", progress=False, pictures=False).folder
    out = tmp_path / "mask.png"
    assert segmented(load_run(folder), picture, "--text", "a red seven", "--out", out) == 2
    assert "was trained without a CLIP" in capsys.readouterr().err
    assert segmented(mae, picture, "--point", "1,1", "--out", out) == 2
    assert "segment is no command for a run of the system 'mae'" in capsys.readouterr().err
    assert not out.exists()


def test_of_a_wide_picture_the_middle_is_read() -> None:
    frame = Frame(40, 20, 16)
    assert frame.inside("--point", "10,0").tolist() == pytest.approx([0.5 * 0.8 - 0.5, 0.5 * 0.8 - 0.5])
    assert frame.inside("--point", "29,19").tolist() == pytest.approx([19.5 * 0.8 - 0.5] * 2)
    with pytest.raises(ValueError, match="--point must lie in the middle 20 x 20 pixels, got 5,5"):
        frame.inside("--point", "5,5")
    assert frame.box("0,0,40,20").tolist() == [0.0, 0.0, 15.0, 15.0]
    with pytest.raises(ValueError, match="--box must reach into the middle"):
        frame.box("0,0,10,20")
    narrow = frame.box("20,5,20.5,10")
    assert bool((narrow[2:] >= narrow[:2]).all())


def test_a_mask_of_a_wide_picture_lies_in_its_middle(tmp_path: Path) -> None:
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[:8] = True
    path = tmp_path / "mask.png"
    path.write_bytes(Frame(48, 32, 16).enlarged(mask))
    with Image.open(path) as file:
        assert file.size == (48, 32)
        white = torch.from_numpy(np.array(file.convert("L"))) > 0
    expected = torch.zeros(32, 48, dtype=torch.bool)
    expected[:16, 8:40] = True
    assert torch.equal(white, expected)
