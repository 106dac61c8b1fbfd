"""A LoRA as a file of its own: its matrices in safetensors, and in the header which model it was made for."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

import flowlib
from flowlib.files import write_whole

ADAPTER = "adapter.safetensors"  # in the folder of a run
FORMAT = "flowlib LoRA 1"


@dataclass(frozen=True, kw_only=True)
class LoRARecord:
    """What is on record of a LoRA.

    Attributes:
        base: the painter that it was made for, as it was named.
        base_sha256: of that one's weights, by which another one is told from it.
        rank, alpha, targets: as in `flowlib.nets.lora.add_lora`.
        caption: that it was trained with; "" for captions of its pictures.
    """

    base: str
    base_sha256: str
    rank: int
    alpha: float
    targets: tuple[str, ...]
    caption: str = ""


def write_lora(path: Path, state: Mapping[str, Tensor], record: LoRARecord) -> None:
    """Write what `lora_state` gives, whole or not at all; a WriteError if that fails."""
    from safetensors.torch import save

    header = {"format": FORMAT, "flowlib": flowlib.__version__, "record": json.dumps(asdict(record))}
    write_whole(path, save({key: value.cpu().contiguous() for key, value in state.items()}, header))


def read_lora(path: Path) -> tuple[dict[str, Tensor], LoRARecord]:
    """The matrices on the CPU, and the record.

    Raises:
        ValueError: for a file that is missing, damaged or no LoRA of flowlib.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ValueError(f"there is no LoRA {path}: `flowlib adapt` makes one")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if header.get("format") != FORMAT:
            raise ValueError(f"its format is {header.get('format')!r}, expected {FORMAT!r}")
        values = json.loads(header["record"])
        return state, LoRARecord(**{**values, "targets": tuple(values["targets"])})
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no LoRA of flowlib, or damaged: {error}") from None
