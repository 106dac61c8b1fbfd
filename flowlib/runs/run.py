"""Runs: what a training leaves in its folder, as a model that is ready to be used.

A folder holds `recipe.json`, `metrics.jsonl`, `checkpoints`, `samples` and a folder for each earlier stage.

Example:
    >>> import torch
    >>> from flowlib.runs import Run, load_pretrained, load_run
    >>> run = load_run("zoo:digits")  # or the folder of a run of your own; load_pretrained("digits") is the same
    >>> run.recipe.name, run.shape, run.step
    ('digits', (1, 8, 8), 500)
    >>> images = run.sample(torch.arange(10), scale=2.0, steps=4)  # one of each label
    >>> images.shape, images.equal(run.sample(torch.arange(10), scale=2.0, steps=4))  # a seed is one set of samples
    (torch.Size([10, 1, 8, 8]), True)
    >>> isinstance(load_pretrained("digits"), Run)
    True
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowlib.data import Spec
from flowlib.recipes import Recipe
from flowlib.runs import zoo
from flowlib.runs.folder import read_record
from flowlib.runs.places import RunError
from flowlib.systems.system import SampleRequest, System, name_of, parts_of
from flowlib.training import Training, checkpoint
from flowlib.training.devices import pick_device
from flowlib.training.order import stream
from flowlib.training.trainer import CHECKPOINTS

__all__ = ["Run", "RunError", "load_pretrained", "load_run"]


@dataclass
class Run:
    """A trained system.

    Attributes:
        folder: where it lies.
        recipe: what it was trained by.
        spec: of the data: the shape of a sample, how many labels ...
        step: how far it was trained.
        module: the averaged networks.
        parts: the finished models that it stands on.
        lineage: the hash of its weights, and of those of each of its parts.
    """

    folder: Path
    recipe: Recipe
    spec: Spec
    step: int
    module: Any
    parts: Mapping[str, nn.Module] = field(default_factory=dict)
    lineage: tuple[str, ...] = ()

    @property
    def field(self) -> Any:
        """The module of a run that is a flow: a field, which samplers, guidance and likelihood take."""
        return self.module

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a sample of the data, (C, H, W) or (2,)."""
        return self.spec.shape

    @property
    def classes(self) -> int:
        """Labels in the data."""
        return self.spec.classes

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.module.parameters()).device

    def beside(self, source: Path | str) -> "Run":
        """Another run, a folder or "zoo:NAME", on the same device: for a command that needs several."""
        return load_run(source, self.device)

    def train(self, name: str, data: str, system: System, training: Training, folder: Path, **options: Any) -> "Run":
        """Train another system, which may stand on this run: for a command that does. See `flowlib.runs.train`."""
        from flowlib.runs.train import train

        return train(Recipe(name=name, data=data, system=system, training=training), folder, **options)

    def noise(self, count: int, seed: int = 0) -> Tensor:
        """Starting points for `count` samples, of the shape that a flow works in."""
        return _method(self.recipe.system, "noise", "starts from no noise")(self.module, self.spec, count, seed)

    def sample(self, y: Tensor | None = None, **options: Any) -> Tensor:
        """Draw samples, on the networks' device.

        Args:
            y: labels or other guides (B, ...), or None for the null guide; then `count` says how many samples.
            options: what else the system's request takes: `count`, `seed`, `batch_size`, `precision`; for a flow also
                `scale`, `steps`, `method`, `trajectory` (see `flowlib.systems.sampling.FlowRequest`).

        Returns:
            (B, *shape), or with `trajectory` (states, B, *shape).

        Raises:
            ValueError: for a system that does not sample, or an argument that does not fit, naming it.
            TypeError: for an option that the system does not take.
        """
        sample = _method(self.recipe.system, "sample", "does not sample")
        if y is not None:
            if not isinstance(y, Tensor) or not y.ndim:
                raise ValueError(f"y must be a torch.Tensor of guides, one a sample, got {y!r}")
            y = y.to(self.device)
            options["count"] = len(y)
        kind = getattr(self.recipe.system, "Sampling", SampleRequest)
        usual = self.recipe.training.precision
        return sample(self.module, self.parts, kind(spec=self.spec, y=y, usual=usual, **options))


def load_run(folder: Path | str, device: str | torch.device = "auto", *, net: nn.Module | None = None) -> Run:
    """The run in a folder, at its latest checkpoint, ready to be used.

    Args:
        folder: where it lies, or "zoo:NAME" for one that comes with the package.
        device: where to put it.
        net: the network of a run that was trained on one of your own, built as it was then; its weights are the run's.

    Raises:
        RunError: if there is no run, or a part that it stands on is gone or has other weights now.
        CheckpointError: if its checkpoint is missing, damaged, or of another version or architecture.
    """
    place = pick_device(device) if isinstance(device, str) else device
    shipped = zoo.entry(str(folder)) if zoo.is_zoo(folder) else None
    folder, record = Path(folder), read_record(Path(folder)) if shipped is None else shipped[0]
    if record.net is not None and net is None:
        raise RunError(f"{folder} was trained with a network of your own, {record.net}: load_run(folder, net=...)")
    parts, hashes = load_parts(record.recipe.system, place)
    for name, digest in hashes.items():
        if record.parts.get(name) != digest:
            raise RunError(f"the part {name!r} of the run in {folder} has other weights than when it was trained")
    module = build(record.recipe, record.spec, parts if net is None else {**parts, "net": net})
    if shipped is None:
        step, weights = checkpoint.load_average(folder / CHECKPOINTS)
    else:
        step, weights = record.recipe.training.steps, shipped[1]
    checkpoint.load_weights(module, weights, folder / CHECKPOINTS if shipped is None else folder)
    module.to(place).eval().requires_grad_(False)
    lineage = (_digest(str(folder)), *record.parts.values())
    return Run(folder, record.recipe, record.spec, step, module, parts, lineage)


def load_pretrained(name: str, device: str | torch.device = "auto") -> Run:
    """The run called `name` in the zoo, ready to be used: `load_run("zoo:NAME")`, with its errors."""
    return load_run(f"{zoo.PREFIX}{name}", device)


def load_parts(system: System, device: torch.device) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """The finished models that a system stands on, frozen, and the hash of each one's weights.

    Raises:
        RunError: for a part that is no run.
    """
    parts, hashes = {}, {}
    for name, source in parts_of(system).items():
        try:
            parts[name] = load_run(source, device).module
        except RunError as error:
            raise RunError(f"the part {name!r}: {error}") from None
        hashes[name] = _digest(source)
    return parts, hashes


def _digest(source: str) -> str:
    """The hash of the weights of a run, a folder or "zoo:NAME"."""
    return zoo.digest(source) if zoo.is_zoo(source) else checkpoint.average_digest(Path(source) / CHECKPOINTS)


def build(recipe: Recipe, spec: Spec, parts: Mapping[str, nn.Module] | None = None) -> nn.Module:
    """The untrained module of a recipe, for data of `spec`; its weights follow from the seed.

    Raises:
        ValueError: if the networks do not take such data.
    """
    generator = stream(recipe.training.seed, "weights")
    with torch.random.fork_rng(devices=[]):  # layers draw their weights from the global generator
        torch.manual_seed(generator.initial_seed())
        return recipe.system.build(spec, parts or {}, generator)


def _method(system: System, name: str, lack: str) -> Any:
    method = getattr(system, name, None)
    if method is None:
        raise ValueError(f"a run of the system {name_of(system)!r} {lack}")
    return method
