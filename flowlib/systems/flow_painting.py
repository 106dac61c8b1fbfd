"""How a flow paints: guided by a caption, by a CLIP, in a hole or from a small picture."""

from typing import Any

from torch import Tensor

from flowlib.data.pixels import read_mask, read_picture
from flowlib.field import Field
from flowlib.guidance import EnergyGuidance
from flowlib.solvers import ADAPTIVE
from flowlib.systems.clip import clip_beside
from flowlib.systems.guides import inpainting_guide
from flowlib.systems.painting import PaintRequest
from flowlib.systems.sampling import check_memory, check_steps, in_bytes
from flowlib.systems.semantic import text_energy

OPTIONS: dict[str, Any] = {
    "scale": 3.0, "steps": 30, "method": "heun", "clip": "", "clip_scale": 30.0,
}  # fmt: skip


def paint_flow(run: Any, request: PaintRequest, small: Tensor | None = None) -> Tensor:
    """Pictures of a caption (count, *shape), or with `small` ones (count, *shape) these enlarged.

    Raises:
        ValueError: for a request that does not fit the run, naming it.
    """
    net = run.module.net
    if not hasattr(net, "tokenizer"):
        raise ValueError(f"{run.folder} reads no captions")
    beside = getattr(net, "shape", None)  # of the picture that is given, too
    if small is not None and beside != tuple(small.shape[1:]):
        raise ValueError(f"--upsampler must name one of pictures {tuple(small.shape[1:])}, got {run.folder}")
    check_memory(request.count, run.shape)
    y = net.tokenizer([request.caption] * request.count)
    if beside is not None:
        y = net.guide(y, _hole(run, request, len(y)) if small is None else in_bytes(small))
    return _run(run, request, y)


def _hole(run: Any, request: PaintRequest, count: int) -> Tensor:
    """What is known of the picture that is edited, beside each sample."""
    if run.module.net.shape != (run.shape[0] + 1, *run.shape[1:]):
        raise ValueError(f"{run.folder} enlarges pictures and makes none: give it as --upsampler")
    if request.edit is None or request.mask is None:
        raise ValueError(f"{run.folder} edits pictures: give it --edit and --mask")
    picture = read_picture(request.edit, run.shape)
    hole = read_mask(request.mask, request.edit, run.shape)
    beside = inpainting_guide(picture[None], 1 - hole[None]).to(run.device)
    return beside.expand(count, -1, -1, -1)


def _run(run: Any, request: PaintRequest, y: Tensor) -> Tensor:
    wanted = request.options(run.recipe.system.paints)
    check_steps(request.steps, wanted["method"])
    clip = clip_beside(run, wanted["clip"], noised=True) if wanted["clip"] else None
    if clip is not None and wanted["method"] in ADAPTIVE:  # which ask for the field at t = 1, where no gradient guides
        raise ValueError(f"--clip guides steps of fixed size, such as heun's: it does not go with {wanted['method']}")

    def wrap(field: Field) -> Field:
        if clip is None:
            return field
        return EnergyGuidance(field, text_energy(clip, [request.caption], wanted["clip_scale"]), conditional=True)

    return run.sample(
        y, scale=wanted["scale"], steps=wanted["steps"], method=wanted["method"], seed=request.seed, wrap=wrap
    ).clamp(-1, 1)
