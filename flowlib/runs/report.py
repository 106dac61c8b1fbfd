"""Reports: how good a run's samples are, beside real ones, and what they cost.

What is measured depends on the data. MNIST has the shipped evaluator. The 8x8 digits are too small for it: their
features are the pixels, and a support vector machine fitted to the training digits reads the labels. Points have
distances.
"""

import time

import torch
from torch import Tensor, nn

from flowlib.checks import check_count
from flowlib.data import load, mnist
from flowlib.likelihood import bits_per_dim, dequantise, log_likelihood
from flowlib.metrics.judges import judge_of
from flowlib.runs.run import Run, RunError
from flowlib.systems.bits import bound_of_test_set
from flowlib.systems.building import network_model
from flowlib.systems.latent import LatentModel
from flowlib.training.devices import autocast
from flowlib.training.order import stream


def evaluate_run(
    run: Run,
    *,
    samples: int = 10_000,
    scales: tuple[float, ...] = (1.0, 2.0),
    steps: int = 50,
    method: str = "heun",
    seed: int = 0,
    batch_size: int = 500,
) -> list[dict[str, float | str]]:
    """Measure a run at each guidance scale, and as many training samples as if they had been generated.

    The training samples are drawn at random, and what is generated is given their labels, so that both have the same
    share of each.

    Args:
        run: any run.
        samples: how many to generate.
        scales: of classifier-free guidance; a run without guide has only the scale 1.
        steps, method, seed, batch_size: as in `Run.sample`.

    Returns:
        a row for the training samples, then one for each scale. Images: "accuracy", "frechet" against the test set, its
        "ratio" to that of the training samples, "precision", "recall", "inception"; points: "sliced_wasserstein" and
        "energy"; and "nfe", network evaluations a sample, and "per_second", samples a second.

    Raises:
        ValueError: for an argument that does not fit, naming it; a DataError if the data cannot be had.
    """
    check_count("samples", samples)
    train, test = load(run.recipe.data, "train"), load(run.recipe.data, "test")
    if samples > len(train) and run.recipe.data == "mnist":
        raise ValueError(f"samples must be at most {len(train):,}, the training images to compare with, got {samples}")
    judge = judge_of(train, test)
    chosen = torch.randperm(len(train), generator=stream(0, "chosen"))[:samples]
    own = train.batch(chosen)
    real = judge(own["x"], own["label"])
    rows: list[dict[str, float | str]] = [{"samples": "training data", **real}]
    labels = own["label"].repeat(-(-samples // len(chosen)))[:samples]  # again, where the data are fewer
    y = labels if run.recipe.guided else None
    for scale in scales if run.recipe.guided else (1.0,):
        calls = _Counter(network_model(run.field).net)
        start = time.perf_counter()
        with calls:
            drawn = run.sample(
                y, count=samples, scale=scale, steps=steps, method=method, seed=seed, batch_size=batch_size
            )
        seconds = time.perf_counter() - start
        scores = judge(drawn.cpu(), y) | {"nfe": calls.samples / samples, "per_second": samples / seconds}
        rows.append({"samples": f"w = {scale:g}" if run.recipe.guided else "no guide", **scores})
    for row in rows:
        if "frechet" in row:
            row["ratio"] = float(row["frechet"]) / float(real["frechet"])
    return rows


def likelihood_of_test_set(
    run: Run,
    *,
    images: int = 100,
    steps: int = 50,
    method: str = "heun",
    end: float | None = None,
    seed: int = 0,
    batch_size: int = 100,
) -> tuple[float, float]:
    """Bits a pixel of the first `images` of MNIST's test set under the flow without a label, and the standard error.

    Of a run with a chain, the total of `bound_of_test_set`, to which `steps`, `method` and `end` mean nothing. Else
    dequantised by uniform noise, so an upper bound in the mean (Theis et al. 2016); in float32, the divergence by
    Hutchinson's estimator. The flow is followed from time `end`: by default from 1 where the field has a velocity
    there, and else from 0.995, where its own noise has about the width of a pixel value's bin.

    Raises:
        RunError: for a run on other data, or a latent one, whose likelihood is not that of images.
        ValueError: for an argument that does not fit.
    """
    if run.recipe.chain:
        bits = bound_of_test_set(run, images=images, seed=seed, batch_size=batch_size).double().sum(1)
        return float(bits.mean()), float(bits.std() / len(bits) ** 0.5) if len(bits) > 1 else float("nan")
    if run.recipe.data != "mnist" or isinstance(run.field, LatentModel):
        raise RunError("a likelihood in bits/dim needs a run on the pixels of MNIST: " + _kind(run))
    pixels, _ = mnist.raw("test")
    pixels = pixels[: check_count("images", images)]
    x = dequantise(pixels, stream(seed, "dequantise")).to(run.device)
    if end is None:
        end = 1.0 if run.field.has_velocity_at(1.0) else 0.995
    with autocast("fp32", run.device):
        log_density = log_likelihood(
            run.field, x, steps=steps, method=method, estimator="hutchinson", generator=stream(seed, "probe"),
            batch_size=batch_size, end=end,
        )  # fmt: skip
    bits = bits_per_dim(log_density.double(), x[0].numel())
    return float(bits.mean()), float(bits.std() / len(bits) ** 0.5) if len(bits) > 1 else float("nan")


def _kind(run: Run) -> str:
    return f"this is one on {'latents of ' if isinstance(run.field, LatentModel) else ''}{run.recipe.data!r}"


class _Counter:
    """Counts the samples that pass through a network."""

    def __init__(self, net: nn.Module) -> None:
        self.net, self.samples = net, 0

    def __enter__(self) -> None:
        self.handle = self.net.register_forward_pre_hook(self._count)

    def __exit__(self, *_: object) -> None:
        self.handle.remove()

    def _count(self, net: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        self.samples += len(arguments[0])
