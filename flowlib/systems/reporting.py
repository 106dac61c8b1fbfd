"""How good a flow's samples are beside real ones, what they cost, and how likely it finds test images."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from flowlib.checks import check_choice, check_count, check_number
from flowlib.data import Dataset
from flowlib.likelihood import bits_per_dim, log_likelihood
from flowlib.pixel_bits import fill_bins
from flowlib.precision import double
from flowlib.progress import progress
from flowlib.solvers import logit_grid
from flowlib.systems.bits import bound_of_test_set
from flowlib.systems.measuring import Chosen, ratios
from flowlib.systems.sampling import METHODS, check_landing
from flowlib.systems.system import Parts, ReportRequest, Row, Splits
from flowlib.training.devices import autocast
from flowlib.training.order import stream


@dataclass(frozen=True, kw_only=True)
class FlowReport(ReportRequest):
    """What is to be measured of a flow.

    Attributes:
        scales: of classifier-free guidance; a flow without guide has only the scale 1.
        steps, method, land: of the sampler, as in `FlowRequest`.
        likelihood: how many test images to score in bits/dim, 0 for none.
    """

    scales: tuple[float, ...] = (1.0, 2.0)
    steps: int = 50
    method: str = "heun"
    land: float | None = None
    likelihood: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for scale in self.scales:
            check_number("scale", scale)
        check_count("steps", self.steps)
        check_choice("method", self.method, METHODS)
        check_landing(self.land, self.method)
        check_count("likelihood", self.likelihood, 0)


def report_flow(system: Any, module: nn.Module, data: Splits, parts: Parts, request: FlowReport) -> Sequence[Row]:
    """Measure samples at each guidance scale, and as many training samples as if they had been generated.

    The training samples are drawn at random, and what is generated is given their guides, so that both have the same
    share of each label.

    Returns:
        a row for the training samples, then one for each scale: the scores of the data's judge, for images with the
        "ratio" of the Fréchet distance to that of the training samples; and "nfe", network evaluations a sample, and
        "per_second", samples a second. Then perhaps a row with "bits_per_dim" and its "standard_error".

    Raises:
        ValueError: for an argument that does not fit, naming it.
    """
    if request.likelihood:
        check_pixels(module, data.test)
    count, chosen = request.samples, Chosen(data, request.samples)
    rows: list[Row] = [chosen.row]
    y = system.guide_of(data.train.batch(chosen.again), request.spec, stream(request.seed, "guides"))
    scales = request.scales if y is not None else (1.0,)
    with progress("sampling", times=len(scales)):
        for scale in scales:
            calls, start = Counter(module), time.perf_counter()
            wish = system.Sampling(
                spec=request.spec, y=None if y is None else y.to(next(module.parameters()).device), count=count,
                scale=scale, steps=request.steps, method=request.method, land=request.land, seed=request.seed,
                batch_size=request.batch_size, usual=request.usual,
            )  # fmt: skip
            with calls:
                drawn = system.sample(module, parts, wish)
            cost: Row = {"nfe": calls.samples / count, "per_second": count / (time.perf_counter() - start)}
            scores = chosen.judge(drawn.cpu(), None if y is None else chosen.labels)
            rows.append({"samples": "no guide" if y is None else f"w = {scale:g}"} | scores | cost)
    ratios(rows)
    if request.likelihood:
        late = getattr(system, "time", None) == "logit-uniform"  # learned where bins show, so looked at there
        how: dict[str, Any] = {"method": "rk4", "times": logit_grid(30)} if late else {}
        bits = bits_of_test_set(module, data.test, images=request.likelihood, seed=request.seed, **how)
        rows.append({"samples": f"{min(request.likelihood, len(data.test))} test images"} | bits)
    return rows


def bits_of_test_set(
    field: Any,
    test: Dataset,
    *,
    images: int = 100,
    steps: int = 50,
    method: str = "heun",
    end: float | None = None,
    times: Tensor | None = None,
    seed: int = 0,
    batch_size: int = 100,
) -> dict[str, float]:
    """Bits a pixel of the first `images` of a test set under a flow without a label, and the standard error.

    Of a field with a chain, the total of `bound_of_test_set`, to which `steps`, `method`, `end` and `times` mean
    nothing. Else dequantised by uniform noise, so an upper bound in the mean (Theis et al. 2016); in float32, the
    divergence by Hutchinson's estimator. The flow is followed from time `end`: by default from 1 where the field has a
    velocity there, and else from 0.995, where its own noise has about the width of an 8-bit pixel's bin; or at `times`.

    Returns:
        "bits_per_dim" and "standard_error".

    Raises:
        ValueError: for data that are no pixels, a field of latents, or an argument that does not fit.
    """
    levels = check_pixels(field, test)
    if hasattr(field.path.schedule, "stride"):
        bits = bound_of_test_set(field, test, images=images, seed=seed, batch_size=batch_size)
        bits = double(bits).sum(1)
    else:
        z = test.images[: check_count("images", images)]
        device = next(field.parameters()).device
        x = fill_bins(z, levels, stream(seed, "dequantise")).to(device)
        if end is None:
            end = 1.0 if field.has_velocity_at(1.0) else 0.995
        with autocast("fp32", device):
            log_density = log_likelihood(
                field, x, steps=steps, method=method, estimator="hutchinson", generator=stream(seed, "probe"),
                batch_size=batch_size, end=end, times=times,
            )  # fmt: skip
        bits = bits_per_dim(double(log_density), x[0].numel(), levels=levels)
    error = float(bits.std() / len(bits) ** 0.5) if len(bits) > 1 else float("nan")
    return {"bits_per_dim": float(bits.mean()), "standard_error": error}


def check_pixels(field: Any, test: Dataset) -> int:
    """How many values a pixel of the data may have; a ValueError for other data, or a field of latents."""
    if test.levels is None or hasattr(field, "decode"):
        raise ValueError(f"bits/dim need a field on pixels: {test.name!r} or this field has none")
    return test.levels


class Counter:
    """Counts the samples that pass through the network of a field."""

    def __init__(self, field: Any) -> None:
        model = getattr(field, "model", field)
        self.net, self.samples = model.net, 0

    def __enter__(self) -> None:
        self.handle = self.net.register_forward_pre_hook(self._count)

    def __exit__(self, *_: object) -> None:
        self.handle.remove()

    def _count(self, net: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        self.samples += len(arguments[0])
