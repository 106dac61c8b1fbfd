"""Optimisers by name, and how their learning rates move with the step."""

import math
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import torch
from torch import nn
from torch.optim import Optimizer

from flowlib.training.devices import is_bf16
from flowlib.training.edges import inner_matrices
from flowlib.training.muon import Muon


class Settings(Protocol):
    """What an optimiser reads of a recipe."""

    @property
    def optimiser(self) -> str: ...
    @property
    def lr(self) -> float: ...
    @property
    def betas(self) -> tuple[float, float]: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def matrix_lr(self) -> float: ...
    @property
    def precision(self) -> str: ...


def _adamw(settings: Settings, model: nn.Module, others: Collection[nn.Parameter] = ()) -> list[Optimizer]:
    """AdamW (Loshchilov & Hutter 2019), but for `others`; only matrices and kernels decay, not biases and gains."""
    parameters = [p for p in model.parameters() if p.requires_grad and p not in others]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = all(p.device.type in ("cpu", "cuda") for p in parameters)
    return [torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=fused)]


def _muon(settings: Settings, model: nn.Module) -> list[Optimizer]:
    """Muon for the matrices and kernels inside the network, AdamW for edges and vectors (Jordan et al. 2024)."""
    inner = list(inner_matrices(model).values())
    # torch refuses an optimiser of nothing.
    muon = [Muon(inner, settings.matrix_lr, half=is_bf16(settings.precision, inner[0].device))] if inner else []
    return [*muon, *_adamw(settings, model, set(inner))]


OPTIMISERS: dict[str, Callable[[Settings, nn.Module], list[Optimizer]]] = {
    "adamw": _adamw,
    "muon": _muon,
}


def make_optimisers(recipe: Settings, model: nn.Module) -> list[Optimizer]:
    """The optimisers that together train all parameters of `model`, at the peak of their learning rates.

    Raises:
        ValueError: with "muon", for a module whose `edges` are not names of its parts.
    """
    optimisers = OPTIMISERS[recipe.optimiser](recipe, model)
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["peak_lr"] = group["lr"]
    return optimisers


def learning_rate_factor(step: int, steps: int, warmup: float) -> float:
    """The share of its peak, in (0, 1], that a learning rate has at a step 0 ... steps - 1.

    It rises in a straight line over `warmup` times `steps` steps, under half a cosine that ends at 0.
    """
    rise = min(1.0, (step + 1) / max(1.0, warmup * steps))
    return rise * 0.5 * (1 + math.cos(math.pi * step / steps))


def set_learning_rates(optimisers: Sequence[Optimizer], factor: float) -> None:
    """Scale all learning rates to `factor` times their peak."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["peak_lr"] * factor
