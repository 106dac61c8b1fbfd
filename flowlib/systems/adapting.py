"""`flowlib adapt`, which trains a LoRA, and the option --lora of `flowlib paint`, which puts it on."""

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from flowlib.checks import check_count, check_number
from flowlib.files import check_place, quoted
from flowlib.nets.lora import ATTENTION, load_lora, lora_state, merge
from flowlib.systems.discovery import find_system
from flowlib.systems.lora_files import ADAPTER, LoRARecord, read_lora, write_lora
from flowlib.systems.painting import Adapter, painter, register_adapter
from flowlib.systems.system import name_of
from flowlib.systems.weighted import split_number
from flowlib.training import Training


@dataclass(frozen=True, kw_only=True)
class AdaptRequest:
    """What `flowlib adapt` is asked for."""

    images: Path = field(metadata={"help": "Folder of the pictures; each may have a .txt file with its caption."})
    caption: str = field(default="", metadata={"help": "Of all pictures, such as 'a sks seven'."})
    rank: int = field(default=4, metadata={"help": "Of the updates."})
    alpha: float | None = field(default=None, metadata={"help": "Updates are scaled by alpha / rank; 1 by default."})
    target: list[str] = field(
        default_factory=lambda: list(ATTENTION),
        metadata={"help": "Which layers, by a pattern of their names; may be repeated. '*' is all."},
    )
    out: Path = field(default=Path("runs/adapted"), metadata={"help": "Folder of the run."})
    steps: int = field(default=400, metadata={"help": "Training steps."})
    batch_size: int = field(default=16, metadata={"help": "Pictures a step."})
    lr: float = field(default=3e-3, metadata={"help": "Learning rate."})
    seed: int = field(default=0, metadata={"help": "Source of all randomness."})
    resume: bool = field(default=False, metadata={"help": "Go on with the run in the folder, if there is one."})
    overwrite: bool = field(default=False, metadata={"help": "Replace the run in the folder."})
    pictures: bool = field(default=True, metadata={"help": "Draw a picture at each quarter of the run."})

    def __post_init__(self) -> None:
        for name in ("rank", "steps", "batch_size"):
            check_count(name, getattr(self, name))
        check_count("seed", self.seed, 0)
        check_number("lr", self.lr, 0, low_open=True)


def settings_of(system: Any) -> dict[str, Any]:
    """The settings of a system as plain data, its name among them."""
    return json.loads(json.dumps({"system": name_of(system), **asdict(system)}))  # as a run's recipe has them


def adapt(run: Any, request: AdaptRequest) -> list[str]:
    """Train a LoRA of a run on pictures of one's own."""
    base: Any = painter(run)
    kind: Any = find_system("lora")
    if isinstance(base, kind):
        raise ValueError(f"{run.folder} is a LoRA: give the painter that it was made for, {base.parts['base']}")
    path = check_place(request.out / ADAPTER)
    if path.exists() and not (request.resume or request.overwrite):
        raise ValueError(f"{path} is there already: add --overwrite to replace it, or choose another --out")
    system = kind(
        painter=settings_of(base), shape=run.shape, caption=request.caption.strip(), rank=request.rank,
        alpha=request.alpha, targets=tuple(request.target), parts={"base": str(run.folder)},
    )  # fmt: skip
    training = Training(
        steps=request.steps, batch_size=request.batch_size, lr=request.lr, seed=request.seed, weight_decay=0.0, ema=0.99
    )
    trained = run.train(
        "lora", f"{request.images}@{run.shape[-1]}", system, training, request.out,
        resume=request.resume, overwrite=request.overwrite, device=str(run.device),
        pictures=request.pictures,
    )  # fmt: skip
    state = lora_state(trained.module)
    write_lora(path, state, record_of(trained))
    return [
        f"Trained {sum(value.numel() for value in state.values()) - 1:,} numbers of {name_of(base)}: {path}",
        f"Next:\n  flowlib paint {quoted(request.caption or '...')} --model {quoted(run.folder)} --lora {quoted(path)}",
    ]


def record_of(run: Any) -> LoRARecord:
    """The record of a run of LoRA, for its file."""
    system = run.recipe.system
    return LoRARecord(
        base=system.parts["base"], base_sha256=run.lineage[1], rank=system.rank,
        alpha=float(system.alpha or system.rank), targets=tuple(system.targets), caption=system.caption,
    )  # fmt: skip


def put_on(run: Any, lora: Sequence[str]) -> Any:
    """The run with LoRAs merged into a copy of its weights.

    Args:
        run: a painter.
        lora: "FILE[:WEIGHT]", or the folder of a run of LoRA, or "zoo:NAME"; weights are 1 by default.

    Raises:
        ValueError: for a LoRA that is none, or of another painter.
    """
    module = copy.deepcopy(run.module)
    for text in lora:
        source, number = split_number(text)
        weight = check_number("the weight of --lora", number, -1e3, 1e3)
        if source.startswith("zoo:") or Path(source).is_dir():
            other = run.beside(source)
            if name_of(other.recipe.system) != "lora":
                raise ValueError(f"--lora must name a LoRA, and {source} is a run of {name_of(other.recipe.system)!r}")
            state, record = lora_state(other.module), record_of(other)
        else:
            state, record = read_lora(Path(source))
        if record.base_sha256 not in run.lineage:
            raise ValueError(f"the LoRA {source} was made for {record.base}, not for {run.folder} and its weights")
        load_lora(module, {key: value.to(run.device) for key, value in state.items()}, weight)
    merge(module)
    return replace(run, module=module)


register_adapter(Adapter({"lora": "A LoRA, FILE[:WEIGHT], a run's folder or zoo:NAME; may be repeated."}, put_on))
