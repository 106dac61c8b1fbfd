"""Training anything: the trainer, checkpoints that survive a crash, and several processes at once.

Example:
    >>> from pathlib import Path
    >>> import torch
    >>> from torch import nn
    >>> from flowlib.training import DivergedError, Task, Trainer, Training, read_metrics
    >>> x, net = torch.randn(1000, 2), nn.Linear(2, 1)
    >>> y = x @ torch.tensor([[2.0], [-1.0]])
    >>> task = Task(net, lambda turn: (net(x[turn.mine]) - y[turn.mine]).square().mean(), count=len(x))
    >>> settings = Training(steps=200, lr=0.1, weight_decay=0.0, ema=0.9)
    >>> trained = Trainer(task, settings, Path("runs/line"), checkpoint_every=100).run()
    >>> [round(float(weight), 2) for weight in trained.weight[0]]
    [2.0, -1.0]
    >>> read_metrics(Path("runs/line/metrics.jsonl"))[-1]["step"]
    200
    >>> wrong = Task(net, lambda turn: net(x[turn.mine]).mean() / 0, count=len(x))
    >>> try:
    ...     Trainer(wrong, settings, Path("runs/wrong")).run()
    ... except DivergedError as error:
    ...     print(str(error)[:18])
    training diverged:
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
