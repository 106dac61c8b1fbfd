"""Painting under controls: `--control edges=sketch.png:0.8`, and which ControlNet follows it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from flowlib.checks import check_number
from flowlib.data.controls import check_kind_of_control, read_control
from flowlib.fields import Model
from flowlib.nets import Controlled, ControlNet
from flowlib.nets.captioned import Captioned
from flowlib.nets.controlled import HeldControls
from flowlib.systems.painting import Adapter, register_adapter
from flowlib.systems.system import name_of
from flowlib.systems.weighted import split_number


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
    name, strength = split_number(what)
    return AskedControl(kind, Path(name), check_number(f"the strength of --control {kind}", strength, 0, 1e3))


def under_control(run: Any, control: Sequence[str], control_net: Sequence[str]) -> Any:
    """The run of a painter whose pictures follow controls.

    Args:
        run: of a painter of captions whose network is a U-Net, which ControlNets were made of, or one of its sizes.
        control: as `parse_control` reads them.
        control_net: runs of ControlNets, folders or zoo:NAME, each in the place of zoo:control-KIND for its own kind.

    Raises:
        ValueError: for what does not fit, naming it.
    """
    if not control:
        raise ValueError("--control-net needs a --control that it follows, such as edges=sketch.png")
    asked = [parse_control(text) for text in control]
    net = getattr(run.module, "net", None)
    if not isinstance(net, Captioned):
        raise ValueError(f"a run of the system {name_of(run.recipe.system)!r} takes no --control")
    images = [read_control(kind, path, run.shape[1:]).to(run.device) for kind, path, _ in asked]
    given = _nets(run, control_net, [one.kind for one in asked])
    made = [given[one.kind].module for one in asked]
    controlled = Controlled(net, made, run.shape[1:], [one.strength for one in asked])
    return replace(run, module=Model(HeldControls(controlled, images), run.module.path, run.module.predicts).eval())


def _nets(run: Any, sources: Sequence[str], kinds: Sequence[str]) -> dict[str, Any]:
    """The run of a ControlNet for each kind."""
    given: dict[str, Any] = {}
    for source in sources:
        other = run.beside(source)
        if not isinstance(other.module, ControlNet):
            raise ValueError(f"--control-net must name runs of the system controlnet, got {source}")
        kind = other.recipe.system.control
        if kind in given or kind not in kinds:
            raise ValueError(f"--control-net {source} is for {kind!r}: give one for each kind of --control at most")
        given[kind] = other
    for kind in kinds:
        if kind not in given:
            given[kind] = run.beside(f"zoo:control-{kind}")
        if given[kind].module.unlocked is not None:
            raise ValueError(f"{given[kind].folder} has changed its base: it controls no other flow")
    return given


register_adapter(
    Adapter(
        {
            "control": "KIND=FILE or KIND=FILE:STRENGTH; edges, mask, scribble, keypoints; may be repeated.",
            "control_net": "A run of a ControlNet, for its own kind; zoo:control-KIND by default; may be repeated.",
        },
        under_control,
        wraps=True,
    )
)
