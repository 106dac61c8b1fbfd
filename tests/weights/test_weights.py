"""Weights that come with the package: what is damaged, exchanged or missing is refused by name."""

from pathlib import Path

import pytest
import torch
from pictures import blobs

from flowlib.metrics import load_evaluator
from flowlib.weights import FOLDER, compress, decompress, describe_weights, weights_file

WEIGHTS = weights_file("evaluator")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the weights and of what is on record of them."""
    for file in (WEIGHTS, FOLDER / "evaluator.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path / WEIGHTS.name


@pytest.mark.parametrize("place", [0, 1000, -1])
@pytest.mark.parametrize("deflated", [True, False])
def test_a_file_with_one_flipped_bit_is_refused(copy: Path, place: int, deflated: bool) -> None:
    """In what is compressed, which can then mostly not be read, or in what that holds."""
    content = bytearray(copy.read_bytes() if deflated else decompress(copy.read_bytes()))
    content[place] ^= 1
    copy.write_bytes(content if deflated else compress(content))
    with pytest.raises(ValueError, match=r"damaged or were exchanged: SHA-256 [0-9a-f]{64}, expected") as caught:
        load_evaluator(copy.parent)
    assert str(copy) in str(caught.value)


def test_a_file_with_bytes_behind_its_end_is_refused(copy: Path) -> None:
    copy.write_bytes(copy.read_bytes() + b"more")
    with pytest.raises(ValueError, match="damaged or were exchanged"):
        load_evaluator(copy.parent)


@pytest.mark.parametrize("size", [0, 1000])
def test_a_truncated_file_is_refused(copy: Path, size: int) -> None:
    copy.write_bytes(WEIGHTS.read_bytes()[:size])
    with pytest.raises(ValueError, match="damaged or were exchanged"):
        load_evaluator(copy.parent)


def test_an_untouched_copy_is_accepted(copy: Path) -> None:
    x = blobs(3, 28)
    assert torch.equal(load_evaluator(copy.parent)(x), load_evaluator()(x))
    assert "command" in describe_weights("evaluator")


@pytest.mark.parametrize("name", [WEIGHTS.name, "evaluator.json"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy.parent / name).unlink()
    with pytest.raises(FileNotFoundError, match="weights 'evaluator' are missing: no file"):
        load_evaluator(copy.parent)


@pytest.mark.parametrize("content", [b"", b"1", b"12", bytes(range(256)) * 3 + b"odd"])
def test_a_file_holds_its_content_without_loss(content: bytes) -> None:
    assert decompress(compress(content)) == content


def test_half_precision_takes_a_seventh_less_room() -> None:
    """As the zoo's do: normal numbers, of which the high byte is not often large."""
    numbers = torch.randn(50_000, generator=torch.Generator().manual_seed(0)).mul(0.05).half()
    content = numbers.view(torch.uint8).numpy().tobytes()
    assert len(compress(content)) < 0.87 * len(content)
    shipped = [file.read_bytes() for file in FOLDER.glob(f"*{weights_file('').name}")]
    assert sum(map(len, shipped)) < 0.87 * sum(len(decompress(stored)) for stored in shipped)
