"""Painting under controls: `--control edges=sketch.png:0.8`, and which ControlNet follows it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from flowlib.checks import check_number
from flowlib.data.controls import check_kind_of_control, read_control
from flowlib.fields import Model
from flowlib.nets import Controlled, ControlNet


class AskedControl(NamedTuple):
    """A control as it is asked for: its kind, the picture of it, and how strong it is."""

    kind: str
    path: Path
    strength: float


def parse_control(text: str) -> AskedControl:
    """What "kind=file" or "kind=file:strength" asks for; a file may have colons of its own.

    Raises:
        ValueError: for another form, an unknown kind, or a strength that is not a number from 0.

    Example:
        >>> parse_control("edges=sketch.png:0.8").strength, parse_control("mask=a:b.png").path.name
        (0.8, 'a:b.png')
    """
    kind, equals, what = text.partition("=")
    if not equals or not what:
        raise ValueError(f"--control must look like edges=sketch.png or edges=sketch.png:0.8, got {text!r}")
    check_kind_of_control(kind)
    name, _, behind = what.rpartition(":")
    try:
        strength = float(behind)
    except ValueError:
        name, strength = what, 1.0
    if not name:  # a file that is called like a number
        name, strength = what, 1.0
    return AskedControl(kind, Path(name), check_number(f"the strength of --control {kind}", strength, 0))


def under_control(run: Any, y: Tensor, controls: Sequence[str], nets: Sequence[str]) -> tuple[Any, Tensor]:
    """The run of a painter under controls, and the guides y (B, length) beside their images.

    Args:
        run: of a painter whose network is a U-Net, which ControlNets were made of, or one of its sizes.
        y: captions.
        controls: as `parse_control` reads them.
        nets: runs of ControlNets, folders or zoo:NAME, each in the place of zoo:control-KIND for its own kind.

    Raises:
        ValueError: for what does not fit, naming it.
    """
    asked = [parse_control(text) for text in controls]
    images = [read_control(kind, path, run.shape[1:]).to(run.device) for kind, path, _ in asked]
    given = {}
    for source in nets:
        other = run.beside(source)
        if not isinstance(other.module, ControlNet):
            raise ValueError(f"--control-net must name runs of the system controlnet, got {source}")
        kind = other.recipe.system.control
        if kind in given or kind not in [one.kind for one in asked]:
            raise ValueError(f"--control-net {source} is for {kind!r}: give one for each kind of --control at most")
        given[kind] = other
    made = []
    for one in asked:
        if one.kind not in given:
            given[one.kind] = run.beside(f"zoo:control-{one.kind}")
        made.append(given[one.kind].module)
        if made[-1].unlocked is not None:
            raise ValueError(f"{given[one.kind].folder} has changed its base: it controls no other flow")
    height, width = run.shape[1:]
    net = Controlled(run.module.net, made, (height, width), [one.strength for one in asked])
    field = Model(net, run.module.path, run.module.predicts)
    beside = [image[None].expand(len(y), -1, -1, -1) for image in images]
    return replace(run, module=field.eval()), net.guide(y.to(run.device), beside)
