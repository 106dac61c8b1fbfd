"""How any network is trained, whatever it learns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from flowlib.checks import check_choice, check_count, check_flag, check_number
from flowlib.training.optimisers import OPTIMISERS


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a network is trained, whatever it learns.

    Attributes:
        steps: the budget. Learning rates follow from the step alone, so a run can stop and go on as if it never had.
        batch_size: samples a step, over all processes together.
        optimiser: "adamw", or "muon" for the matrices inside the network, as its `edges` say
            (`flowlib.training.edges`), and AdamW for the rest. `lr`, `betas`, `weight_decay` are AdamW's, `matrix_lr`
            is Muon's.
        warmup: the share of the steps, in [0, 1], over which learning rates rise; then they fall to 0 on half a cosine.
        clip: the largest norm of the gradient, > 0; None leaves it as it is.
        ema: decay of the weights' moving average, in [0, 1); it is smaller in the first steps.
        seed: the source of all randomness: initial weights, order of the data, times, noise, dropped guides.
        precision: "bf16" (autocast), "fp32", or "auto": bf16 where the processor computes in it.
        compile: whether the network goes through `torch.compile`.

    Raises:
        ValueError: for a value that does not fit, naming it.

    Example:
        >>> from flowlib.training import Training
        >>> Training(steps=1000, warmup=0.1).batch_size
        64
        >>> Training(steps=0)
        Traceback (most recent call last):
        ValueError: steps must be an integer >= 1, got 0
    """

    needs: ClassVar[Mapping[str, tuple[str, object]]] = {"matrix_lr": ("optimiser", "muon")}

    steps: int
    batch_size: int = 64
    optimiser: str = "adamw"
    lr: float = 2e-3
    matrix_lr: float = 0.02
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    warmup: float = 0.05
    clip: float | None = 1.0
    ema: float = 0.999
    seed: int = 0
    precision: str = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_count("batch_size", self.batch_size)
        check_choice("optimiser", self.optimiser, OPTIMISERS)
        check_number("lr", self.lr, 0, low_open=True)
        check_number("matrix_lr", self.matrix_lr, 0, low_open=True)
        if not isinstance(self.betas, list | tuple) or len(self.betas) != 2:
            raise ValueError(f"betas must be two numbers, got {self.betas!r}")
        betas = tuple(check_number("betas", beta, 0, 1, high_open=True) for beta in self.betas)
        object.__setattr__(self, "betas", betas)
        check_number("weight_decay", self.weight_decay, 0)
        check_number("warmup", self.warmup, 0, 1)
        if self.clip is not None:
            check_number("clip", self.clip, 0, low_open=True)
        check_number("ema", self.ema, 0, 1, high_open=True)
        check_count("seed", self.seed, 0)
        check_choice("precision", self.precision, ["auto", "bf16", "fp32"])
        check_flag("compile", self.compile)
