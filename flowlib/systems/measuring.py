"""Measuring samples: rows of the data's judge for training data and for what a system draws, and what that costs."""

import time
from typing import Any

import torch
from torch import Tensor, nn

from flowlib.metrics.judges import Judge, judge_of
from flowlib.systems.system import Parts, ReportRequest, Row, SampleRequest, Splits
from flowlib.training.order import stream


class Chosen:
    """Training data to compare with: drawn at random, and where there are fewer than asked for, again and again.

    What is generated is given their labels, so that both have the same share of each.
    """

    def __init__(self, data: Splits, count: int) -> None:
        train = data.train
        index = torch.randperm(len(train), generator=stream(0, "chosen"))[:count]
        self.judge: Judge = judge_of(train, data.test)
        self.again = index.repeat(-(-count // len(index)))[:count]
        self.labels = None if train.labels is None else train.labels[self.again]
        own = None if train.labels is None else train.labels[index]
        self.row: Row = {"samples": "training data", **self.judge(train.images[index], own)}


def ratios(rows: list[Row]) -> list[Row]:
    """The rows, each with the "ratio" of its Fréchet distance to the first row's; none where that is 0."""
    least = float(rows[0].get("frechet", 0))  # 0 where the test data are the training data
    for row in rows if least else ():
        row["ratio"] = float(row["frechet"]) / least
    return rows


def report_samples(
    system: Any, module: nn.Module, data: Splits, parts: Parts, request: ReportRequest, labelled: bool = False
) -> list[Row]:
    """Rows for training data and for as many samples of a system, given the labels of these where it is `labelled`."""
    chosen = Chosen(data, request.samples)
    y = chosen.labels if labelled else None
    kind, start = getattr(system, "Sampling", SampleRequest), time.perf_counter()
    device = next(module.parameters()).device
    wish = kind(
        spec=request.spec, y=None if y is None else y.to(device), count=request.samples, seed=request.seed,
        batch_size=request.batch_size, usual=request.usual,
    )  # fmt: skip
    drawn: Tensor = system.sample(module, parts, wish)
    speed = request.samples / (time.perf_counter() - start)
    return ratios([chosen.row, {"samples": "drawn"} | chosen.judge(drawn.cpu(), y) | {"per_second": speed}])
