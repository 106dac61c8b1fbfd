"""What a memory recalls: the posterior mean of the data, without the datum that x is made of."""

import pytest
import torch
from flows import flow_recipe
from torch import Tensor

from flowlib import EmpiricalField, GaussianPath, Model, prediction_loss
from flowlib.data import Dataset
from flowlib.nets import Memory, Recalling, UNet
from flowlib.nets.recalling import LAST, OF_ALL, SHARPEST, with_paper
from flowlib.recipes import change
from flowlib.runs import load_run, train
from flowlib.training.order import stream

SHAPE = (1, 4, 4)


def data(count: int = 30, seed: int = 0) -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    return torch.randn(count, *SHAPE, generator=drawn), torch.arange(count) * 7 % 3


def noised(z: Tensor, t: Tensor, seed: int = 1) -> Tensor:
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(seed))
    return t.view(-1, 1, 1, 1) * z + (1 - t).view(-1, 1, 1, 1) * noise


def fitted(z: Tensor, y: Tensor | None, until: float = 1.0) -> Memory:
    memory = Memory(SHAPE, until)
    memory.fit(z, y)
    return memory


def test_while_it_may_be_sharp_it_is_the_exact_mean() -> None:
    z, y = data()
    t = torch.linspace(0.01, SHARPEST, 30)
    x, wanted = noised(z, t), torch.arange(30) % 4  # 3 is the null guide
    exact = EmpiricalField(z, y)
    torch.testing.assert_close(fitted(z, y)(x, t, wanted), exact.data(x, t, wanted), rtol=0, atol=2e-6)
    torch.testing.assert_close(fitted(z, y)(x, t), exact.data(x, t), rtol=0, atol=2e-6)
    torch.testing.assert_close(fitted(z, None)(x, t, wanted), exact.data(x, t), rtol=0, atol=2e-6)


def test_later_it_is_no_sharper_and_fades() -> None:
    z, _ = data(10)
    memory, t = fitted(z, None, until=0.75), torch.full((10,), 0.5)
    x = noised(z, t)
    # At t = 1/2 a posterior as sharp as at 1/4, where beta / alpha = 3, in the place of 1.
    apart = (x / 0.5)[:, None] - z[None]
    weights = torch.softmax(-apart.flatten(2).square().sum(2) / (2 * 3**2), dim=1)
    torch.testing.assert_close(memory(x, t), 0.5 * torch.einsum("ij,jchw->ichw", weights, z), rtol=0, atol=2e-6)
    late = torch.tensor([0.75, 0.9, 1.0])
    assert not memory(x[:3], late).any()


def test_each_sample_finds_all_data_but_its_own() -> None:
    z, y = data()
    t, index = torch.full((5,), 0.2), torch.tensor([4, 0, 29, 12, 3])
    x, memory = noised(z[index], t), fitted(z, y)
    for labels in (y[index], torch.full((5,), 3), None):
        with memory.without(index):
            found = memory(x, t, labels)
        for row, own in enumerate(index.tolist()):
            kept = torch.arange(30) != own
            field = EmpiricalField(z[kept], y[kept])
            one = None if labels is None else labels[row : row + 1]
            torch.testing.assert_close(found[row : row + 1], field.data(x[row : row + 1], 0.2, one), rtol=0, atol=2e-6)
        assert not torch.allclose(found, memory(x, t, labels), atol=1e-3)


def test_a_label_of_one_datum_recalls_the_mean_of_all() -> None:
    z, _ = data(5)
    memory, t = fitted(z, torch.tensor([0, 0, 0, 0, 1])), torch.tensor([0.2])
    with memory.without(torch.tensor([4])):
        found = memory(noised(z[4:], t), t, torch.tensor([1]))
    torch.testing.assert_close(found, z.mean(0, keepdim=True), rtol=0, atol=2e-6)


def test_all_are_stood_for_by_some_where_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowlib.nets.recalling.OF_ALL", 10)
    z, y = data()
    memory, t = fitted(z, y), torch.full((30,), 0.2)
    some = y.argsort(stable=True)[::3]
    x = noised(z, t)
    torch.testing.assert_close(memory(x, t), EmpiricalField(z[some]).data(x, t), rtol=0, atol=2e-6)
    with memory.without(torch.arange(30)):
        found = memory(x, t)
    for i in range(30):
        kept = some[some != i]
        torch.testing.assert_close(found[i : i + 1], EmpiricalField(z[kept]).data(x[i : i + 1], 0.2), rtol=0, atol=2e-6)
    assert OF_ALL > 1000


def test_what_a_memory_is_worth_is_only_seen_without_the_datum_itself() -> None:
    """Of data that are pure noise the others tell nothing: the best linear use of x and the mean is that of x alone."""
    z, _ = data(32)
    memory, index = fitted(z, None), torch.arange(32).repeat(200)
    t = torch.full((len(index),), 0.24)
    x = noised(z[index], t)
    with memory.without(index):
        honest = memory(x, t)
    weights = []
    for mean in (honest, memory(x, t)):
        seen = torch.stack([x.flatten(), mean.flatten()], dim=1)
        weights.append(torch.linalg.lstsq(seen, z[index].reshape(-1, 1)).solution.flatten().tolist())
    assert abs(weights[0][1]) < 0.25
    assert weights[1][1] > 0.75


@pytest.mark.parametrize("net", ["unet", "dit"])
def test_a_run_carries_what_it_recalls(net: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    z, y = data(24)
    images = Dataset((z / 4).clamp(-1, 1), y, 3, "few", levels=256)
    args = (
        {"channels": (8,), "patch": 1, "dim": 8} if net == "unet" else {"width": 8, "depth": 1, "heads": 2, "patch": 2}
    )
    recipe = flow_recipe(net=net, net_args=args, predicts="v", recall=0.5, steps=3, batch_size=8, precision="fp32")
    run = train(recipe, tmp_path / "run", data=images)
    again = load_run(tmp_path / "run")
    wanted = torch.tensor([0, 1, 2, 0])
    assert torch.equal(again.sample(wanted, steps=3), run.sample(wanted, steps=3))
    assert len(again.module.net.memory.codes) == 24
    t = torch.full((4,), 0.2)
    exact = EmpiricalField(images.images, images.labels)
    x = noised(z[:4], t)
    torch.testing.assert_close(again.module.net.memory(x, t, wanted), exact.data(x, t, wanted), rtol=0, atol=2e-6)
    longer = change(recipe, steps=5)
    part = train(longer, tmp_path / "run", data=images, resume=True)
    assert part.step == 5


def test_what_does_not_fit_is_named(tmp_path) -> None:  # type: ignore[no-untyped-def]
    for wrong in (0.2, SHARPEST, 1.1, "soon"):
        with pytest.raises(ValueError, match="until"):
            Memory(SHAPE, wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fitted before"), Memory(SHAPE, 0.5).without(torch.arange(2)):
        pass
    assert not Memory(SHAPE, 0.5)(torch.randn(2, *SHAPE), torch.full((2,), 0.1)).any()
    with pytest.raises(ValueError, match="recall must"):
        flow_recipe(recall=0.25, steps=1)
    for setting in (
        {"schedule": "vp"},
        {"stable_until": 0.2},
        {"predicts": "data"},
        {"net": "mlp"},
        {"guide": "inpainting"},
    ):
        with pytest.raises(ValueError, match=next(iter(setting))):
            flow_recipe(recall=0.5, **{"predicts": "v", "steps": 1, **setting})
    args = {"channels": (8,)}
    recipe = flow_recipe(data="scenes", recall=0.5, predicts="v", steps=1, batch_size=2, guided=False, net_args=args)
    with pytest.raises(ValueError, match="recall needs data that end"):
        train(recipe, tmp_path)


def test_the_loss_reaches_what_is_recalled() -> None:
    z, y = data()
    net = Recalling(UNet(2, (8,), classes=3, patch=1, dim=8), fitted(z, y, 0.5))
    torch.nn.init.normal_(net.net.head.weight)  # zero at first, so that nothing before it has a gradient
    model = Model(net, predicts="v")
    prediction_loss(
        model, z, y, time=lambda count, _: torch.full((count,), 0.2), generator=stream(0, "loss")
    ).backward()
    assert net.net.stem.weight.grad[:, :1].abs().sum() > 0  # of x
    assert net.net.stem.weight.grad[:, 1:].abs().sum() > 0  # of the mean
    assert net.net.head.weight.grad.flatten(1).abs().sum(1).all()  # of v, and of ink


def test_a_pixel_that_may_be_paper_has_the_mean_of_both() -> None:
    """D of an exact mixture: paper with probability 1 - g, and a Gaussian else, whose posterior is known."""
    path, t = GaussianPath(), torch.tensor([0.3, 0.6, 0.9])
    x = noised(data(3)[0], t)
    spread = 0.4
    alpha, beta = t.view(-1, 1, 1, 1), 1 - t.view(-1, 1, 1, 1)
    variance = alpha**2 * spread**2 + beta**2
    of_ink = alpha * spread**2 * x / variance  # E[z|x] of ink, centred at 0
    log_ink = -0.5 * x**2 / variance - 0.5 * variance.log()
    log_paper = -0.5 * (x + alpha) ** 2 / beta**2 - beta.log()
    g = torch.sigmoid(log_ink - log_paper)
    found = with_paper(x, t, path.convert(of_ink, x, t, "data", "v"), log_ink - log_paper)
    torch.testing.assert_close(path.convert(found, x, t, "v", "data"), g * of_ink - (1 - g), rtol=0, atol=1e-5)


def test_the_last_weight_is_bounded() -> None:
    x, t = torch.full((2, 1, 1, 1), -0.9), torch.tensor([1 - LAST, 1.0])
    assert (with_paper(x, t, torch.zeros_like(x), torch.tensor(-99.0)).abs() < 1 / LAST).all()
