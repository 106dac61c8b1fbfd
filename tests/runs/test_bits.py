"""Named recipes, made tiny, end with the weights on record: what is moved or rewritten must not change the result.

On the processor and with the torch of the record the hash of all weights is the same; elsewhere, where sums are taken
in another order, the sum of their squares nearly is. A recipe that is meant to compute something else gets a new entry.
"""

import hashlib
import json
import platform
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from flowlib.recipes import find_recipe, override
from flowlib.runs import train
from flowlib.training import checkpoint
from flowlib.training.trainer import CHECKPOINTS

RECORD = json.loads(Path(__file__).with_name("bits.json").read_text("utf-8"))
COMMON = ["steps=6", "batch_size=16", "precision=fp32", "ema=0.9"]


def here() -> dict[str, str]:
    """What the last bit depends on: torch, and which of its kernels this processor runs."""
    try:
        info = Path("/proc/cpuinfo").read_text()
    except OSError:
        info = ""
    names = [re.search(rf"^{key}\s*: (.*)$", info, re.MULTILINE) for key in ("vendor_id", "cpu family", "model")]
    # One model of processor has fewer of them in some virtual machines, and oneDNN then takes other kernels.
    flags = re.search(r"^flags\s*: (.*)$", info, re.MULTILINE)
    vectors = {flag for flag in flags[1].split() if re.match("avx|amx|fma", flag)} if flags else set()
    return {
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        "processor": " ".join(found[1] for found in names if found),
        "vectors": " ".join(sorted(vectors)),
    }


def digest(parts: list[dict[str, Tensor]]) -> str:
    """The SHA-256 of all names and bytes."""
    total = hashlib.sha256()
    for part in parts:
        for name in sorted(part):
            total.update(name.encode())
            total.update(part[name].contiguous().numpy().tobytes())
    return total.hexdigest()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", RECORD["recipes"])
def test_a_recipe_has_the_weights_on_record(name: str, tmp_path: Path) -> None:
    expected = RECORD["recipes"][name]
    train(override(find_recipe(name), [*expected["settings"], *COMMON]), tmp_path, pictures=False, progress=False)
    saved = checkpoint.load(tmp_path / CHECKPOINTS)
    square = sum(float(value.double().square().sum()) for value in saved.average.values())
    print("compared:", "all bits" if here() == RECORD["made on"] else "the sum of squares")
    if here() == RECORD["made on"]:
        assert digest([saved.weights, saved.average]) == expected["sha256"], f"other bits; the square is {square}"
    else:
        told = {key: value for key, value in here().items() if value != RECORD["made on"][key]}
        warnings.warn(f"bits are compared by the sum of squares alone: the record was made elsewhere, not on {told}",
                      stacklevel=1)  # fmt: skip
    assert square == pytest.approx(expected["square"], rel=1e-3)


def test_the_hash_sees_one_bit_and_a_name() -> None:
    a = torch.zeros(3)
    b = a.clone()
    b[1] = 1e-45
    assert len({digest([part]) for part in ({"w": a}, {"w": b}, {"v": a}, {"w": a, "v": a})}) == 4
