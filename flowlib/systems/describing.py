"""`flowlib describe`: captions of a picture."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowlib.checks import check_count, check_number
from flowlib.data.pixels import read_picture
from flowlib.systems.caption_writing import write_captions


@dataclass(frozen=True, kw_only=True)
class DescribeRequest:
    """What `flowlib describe` is asked for."""

    picture: Path = field(metadata={"help": "An image file.", "argument": True})
    count: int = field(default=1, metadata={"help": "Captions to write."})
    temperature: float = field(default=1.0, metadata={"help": "Below 1, the default, only what is probable is drawn."})
    top_k: int = field(
        default=1, metadata={"help": "How many tokens may be drawn at each place; 0 is all, 1 the most probable."}
    )
    seed: int = field(default=0, metadata={"help": "Another seed, other captions."})

    def __post_init__(self) -> None:
        check_count("count", self.count)
        check_number("temperature", self.temperature, 0, low_open=True)
        check_count("top_k", self.top_k, 0)
        check_count("seed", self.seed, 0)
        if self.top_k == 1 and (self.count > 1 or self.seed or self.temperature != 1):
            raise ValueError("--count, --seed and --temperature go with another --top-k than 1, of one caption")


def describe(run: Any, request: DescribeRequest) -> list[str]:
    """Captions of a picture."""
    images = read_picture(request.picture, run.shape).expand(request.count, -1, -1, -1)
    return write_captions(
        run.module, images, temperature=request.temperature, top_k=request.top_k, seed=request.seed
    )  # fmt: skip
