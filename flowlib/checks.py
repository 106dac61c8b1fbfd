"""Checks of arguments, shared by every public function: a bad input is named before anything is computed."""

import math
from collections.abc import Iterable
from numbers import Integral, Real

import torch
from torch import Tensor

from flowlib.known import is_so

LARGEST = 2**63 - 1


def check_tensor(name: str, value: object, *, finite: bool = True, batch: bool = True) -> Tensor:
    """Return `value` if it is a floating-point tensor, non-empty, with a batch dimension and finite entries.

    Raises:
        ValueError: naming the argument, what came and what was expected.
    """
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise ValueError(f"{name} must be a floating-point tensor, got dtype {value.dtype}")
    if batch and value.ndim < 2:
        raise ValueError(f"{name} must have shape (batch, ...), got {tuple(value.shape)}")
    if value.numel() == 0:
        raise ValueError(f"{name} is empty: got shape {tuple(value.shape)}")
    if finite and not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name} has entries that are NaN or infinite")
    return value


def check_kind(name: str, value: Tensor, owner: str, like: Tensor) -> Tensor:
    """Return `value` if it has the dtype and lies on the device of `like`, which belongs to `owner`.

    Under autocast, which converts what enters an operation, only the device counts.

    Raises:
        ValueError: naming the argument, what came and what was expected.
    """
    other = value.dtype != like.dtype and not torch.is_autocast_enabled(value.device.type)
    if other or value.device != like.device:
        raise ValueError(f"{name} is {value.dtype} on {value.device}, but {owner} is {like.dtype} on {like.device}")
    return value


def check_image_shape(name: str, value: Tensor, channels: int, multiple: int = 1, sides: str = "H, W") -> Tensor:
    """Return `value` if its shape is (batch, channels, H, W), with H and W multiples of `multiple`.

    Raises:
        ValueError: naming the argument, what came and what was expected, where H and W are called `sides`.
    """
    if value.ndim != 4 or value.shape[1] != channels or any(side % multiple for side in value.shape[2:]):
        expected = f"(batch, {channels}, {sides})"
        if multiple > 1:
            expected += f" with {sides.replace(', ', ' and ')} multiples of {multiple}"
        raise ValueError(f"{name} must have shape {expected}, got {tuple(value.shape)}")
    return value


def check_image_size(name: str, value: Tensor, channels: int, size: int) -> Tensor:
    """Return `value` if its shape is (batch, channels, size, size); else a ValueError naming it and what came."""
    if value.ndim != 4 or value.shape[1:] != (channels, size, size):
        raise ValueError(f"{name} must have shape (batch, {channels}, {size}, {size}), got {tuple(value.shape)}")
    return value


def check_labels(name: str, y: object, batch: int, classes: int, device: torch.device) -> Tensor:
    """Return `y` if it is an integer tensor of shape (batch,) on `device` with values 0 ... classes.

    The value `classes` itself is the null guide.

    Raises:
        ValueError: naming the argument, what came and what was expected.
    """
    if not isinstance(y, Tensor):
        raise ValueError(f"{name} must be a torch.Tensor of labels, got {type(y).__name__}")
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise ValueError(f"{name} must hold integer labels, got dtype {y.dtype}")
    if tuple(y.shape) != (batch,):
        raise ValueError(f"{name} must have shape ({batch},), one label a sample, got {tuple(y.shape)}")
    if y.device != device:
        raise ValueError(f"{name} is on {y.device}, the samples are on {device}")
    # Both are read at once, because a GPU is waited for each time.
    low, high = 0, 0

    def fit() -> bool:
        nonlocal low, high
        low, high = torch.stack(torch.aminmax(y.long())).tolist()  # of some kinds of integers torch finds no maximum
        return low >= 0 and high <= classes

    if not is_so(y, None, ("labels", classes), fit):
        raise ValueError(f"{name} must lie in 0 ... {classes - 1} (or {classes}, the null guide), got {low} ... {high}")
    return y


def check_count(name: str, value: object, minimum: int = 1) -> int:
    """Return `value` if it is an integer not below `minimum`, of a size that tensors hold.

    Raises:
        ValueError: naming the argument, what came and what was expected.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:  # NumPy's integers too
        raise ValueError(f"{name} must be an integer >= {minimum}, got {value!r}")
    if int(value) > LARGEST:
        raise ValueError(f"{name} must be an integer of at most 63 bits, got {value!r}")
    return int(value)


def check_odd(name: str, value: object, minimum: int = 1) -> int:
    """Return `value` if it is an odd integer not below `minimum`, or 0 where that is 0; errors as in `check_count`."""
    count = check_count(name, value, minimum)
    if count and count % 2 == 0:
        raise ValueError(f"{name} must be odd, got {count}")
    return count


def check_number(
    name: str,
    value: object,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    low_open: bool = False,
    high_open: bool = False,
) -> float:
    """Return `value` as a float if it is a finite number in the interval from `low` to `high`.

    Raises:
        ValueError: naming the argument, what came and what was expected.
    """
    bad = isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value)
    if bad or value < low or value > high or (low_open and value == low) or (high_open and value == high):  # type: ignore[operator]
        left, right = "(" if low_open or low == -math.inf else "[", ")" if high_open or high == math.inf else "]"
        where = "" if (low, high) == (-math.inf, math.inf) else f" in {left}{low}, {high}{right}"
        raise ValueError(f"{name} must be a finite number{where}, got {value!r}")
    return float(value)  # type: ignore[arg-type]


def check_choice(name: str, value: object, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`.

    Raises:
        ValueError: naming the argument, what came and what was expected.
    """
    names = list(choices)
    if value not in names:
        raise ValueError(f"{name} must be one of {', '.join(names)}; got {value!r}")
    return str(value)


def check_flag(name: str, value: object) -> bool:
    """Return `value` if it is true or false; a ValueError if not."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")
    return value
