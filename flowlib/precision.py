"""Double precision, and what to do for tensors on a device that has none."""

import torch
from torch import Tensor

WITHOUT_DOUBLE = {"mps"}  # kinds of devices


def finest(device: torch.device) -> torch.dtype:
    """float64, or float32 on a device without it."""
    return torch.float32 if device.type in WITHOUT_DOUBLE else torch.float64


def double_device(device: torch.device) -> torch.device:
    """Where float64 is computed for tensors on a device: there, or on the CPU if it cannot."""
    return torch.device("cpu") if device.type in WITHOUT_DOUBLE else device


def double(x: Tensor) -> Tensor:
    """`x` as float64, on its device, or on the CPU if that has none; `result.to(x)` leads back."""
    return x.to(double_device(x.device)).double()
