"""Measuring repairs: images of which a part was known, beside the truth (Saharia et al. 2022)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from flowlib.metrics.judges import judge_of
from flowlib.systems.reporting import FlowReport
from flowlib.systems.sampling import FlowRequest
from flowlib.systems.system import Parts, Row, Splits
from flowlib.training.order import stream

DRAWS = 8  # whose mean is measured too


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images (B, C, H, W) in [-1, 1]: 10 log10(4 / the mean squared error).

    Of one mean over all images, so that 3 dB are a factor of 2 in it.
    """
    return float(10 * torch.log10(4 / (a.clamp(-1, 1) - b).square().mean()))


def report_repairs(system: Any, module: nn.Module, data: Splits, parts: Parts, request: FlowReport) -> Sequence[Row]:
    """Rows for test images as given, one draw for each and the mean of eight, all with equal steps: "psnr" and the
    scores of the data's judge, whose accuracy is that of the true labels.

    A draw is what p(x|y) asks for; the mean has the smaller squared error and is no likely image.
    """
    test, judge = data.test, judge_of(data.train, data.test)
    index = torch.arange(min(request.samples, len(test)))
    truth = test.images[index]
    labels = None if test.labels is None else test.labels[index]
    y = system.guide_of(test.batch(index), request.spec, stream(request.seed, "guides"))
    wish = FlowRequest(
        spec=request.spec, y=y.to(next(module.parameters()).device), count=len(index), steps=request.steps,
        method=request.method, batch_size=request.batch_size, usual=request.usual,
    )  # fmt: skip
    draws = [system.sample(module, parts, replace(wish, seed=request.seed + k)).cpu() for k in range(DRAWS)]
    rows = {"as given": y[:, :-1], "a draw": draws[0], f"mean of {DRAWS}": torch.stack(draws).mean(0)}
    return [{"images": name, "psnr": psnr(x, truth), **judge(x.clamp(-1, 1), labels)} for name, x in rows.items()]
