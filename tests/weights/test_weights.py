"""Weights that come with the package: what is damaged, exchanged or missing is refused by name."""

from pathlib import Path

import pytest
import torch
from pictures import blobs

from flowlib.metrics import load_evaluator
from flowlib.weights import FOLDER, describe_weights

WEIGHTS = FOLDER / "evaluator.safetensors"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the weights and of what is on record of them."""
    for name in ("evaluator.safetensors", "evaluator.json"):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    return tmp_path / "evaluator.safetensors"


def test_a_file_with_one_flipped_bit_is_refused(copy: Path) -> None:
    content = bytearray(copy.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged or were exchanged: SHA-256 [0-9a-f]{64}, expected") as caught:
        load_evaluator(copy.parent)
    assert str(copy) in str(caught.value)


@pytest.mark.parametrize("size", [0, 1000])
def test_a_truncated_file_is_refused(copy: Path, size: int) -> None:
    copy.write_bytes(WEIGHTS.read_bytes()[:size])
    with pytest.raises(ValueError, match="damaged or were exchanged"):
        load_evaluator(copy.parent)


def test_an_untouched_copy_is_accepted(copy: Path) -> None:
    x = blobs(3, 28)
    assert torch.equal(load_evaluator(copy.parent)(x), load_evaluator()(x))
    assert "command" in describe_weights("evaluator")


@pytest.mark.parametrize("name", ["evaluator.safetensors", "evaluator.json"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy.parent / name).unlink()
    with pytest.raises(FileNotFoundError, match="weights 'evaluator' are missing: no file"):
        load_evaluator(copy.parent)
