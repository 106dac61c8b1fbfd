"""Which device a run computes on, and in which precision."""

from contextlib import AbstractContextManager

import torch

from flowlib.checks import check_choice


def pick_device(name: str = "auto") -> torch.device:
    """The device of a name such as "cpu" or "cuda:1"; "auto" is the first GPU that CUDA finds, or the CPU.

    Raises:
        ValueError: for a device that torch does not know, or that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError):
        known = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise ValueError(f"device {name!r} cannot be used here; what can: {', '.join(known)}") from None
    return device


def computes_in_bf16(device: torch.device) -> bool:
    """Whether the processor multiplies bfloat16 matrices itself; where it only imitates that, float32 is faster."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, probe, bool)() for probe in probes)


def is_bf16(precision: str, device: torch.device) -> bool:
    """Whether a recipe's precision, "auto" | "bf16" | "fp32", means bfloat16 on a device."""
    check_choice("precision", precision, ["auto", "bf16", "fp32"])
    return precision == "bf16" or (precision == "auto" and computes_in_bf16(device))


def autocast(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """The context in which a recipe's precision computes on a device."""
    return torch.autocast(device.type, torch.bfloat16, enabled=is_bf16(precision, device))
