"""Counting what makes Python wait for a device: every way to read a tensor's values on the host."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# What `bool`, `int`, `float` and `item` come down to, and operations whose result's shape or error the host must know.
OPERATIONS = {
    "aten::_local_scalar_dense",
    "aten::is_nonzero",
    "aten::item",
    "aten::nonzero",
    "aten::equal",
    "aten::masked_select",
    "aten::_linalg_check_errors",
}
METHODS = ("tolist", "numpy", "cpu", "__array__")  # which read without an operation


class Reads(TorchDispatchMode):
    """How many reads there have been, and what they were."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []
        self.methods: list[str] = []

    @property
    def count(self) -> int:
        return len(self.operations) + len(self.methods)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        by_mask = name == "aten::index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        if name in OPERATIONS or by_mask:
            self.operations.append(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def counted() -> Iterator[Reads]:
    """Counts all reads inside."""
    reads, kept = Reads(), {name: getattr(Tensor, name) for name in METHODS}

    def noting(name: str) -> Callable[..., Any]:
        def method(*args: Any, **kwargs: Any) -> Any:
            reads.methods.append(name)
            return kept[name](*args, **kwargs)

        return method

    try:
        for name in METHODS:
            setattr(Tensor, name, noting(name))
        with reads:
            yield reads
    finally:
        for name in METHODS:
            if name in vars(Tensor) and getattr(kept[name], "__objclass__", Tensor) is not Tensor:
                delattr(Tensor, name)  # it was inherited
            else:
                setattr(Tensor, name, kept[name])
