"""`flowlib paint`: a picture of a caption, from nothing, at twice the size, or in a hole of a picture that there is."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from flowlib.checks import check_count, check_number
from flowlib.data.pixels import read_mask, read_picture
from flowlib.field import Field
from flowlib.guidance import EnergyGuidance
from flowlib.nets.captioned import Captioned, CaptionedBeside
from flowlib.plotting import png_of
from flowlib.systems.clip import clip_beside
from flowlib.systems.guides import inpainting_guide
from flowlib.systems.sampling import check_memory, in_bytes
from flowlib.systems.semantic import text_energy
from flowlib.training.files import write_whole


@dataclass(frozen=True, kw_only=True)
class PaintRequest:
    """What `flowlib paint` is asked for."""

    caption: str = field(metadata={"help": "What to paint, such as 'a red seven'.", "argument": True})
    out: Path = field(default=Path("scene.png"), metadata={"help": "The picture to write."})
    count: int = field(default=1, metadata={"help": "Pictures, side by side."})
    scale: float = field(default=3.0, metadata={"help": "Guidance scale: 1 is none; more is closer to the caption."})
    steps: int = field(default=30, metadata={"help": "Steps of the sampler."})
    method: str = field(default="heun", metadata={"help": "As in flowlib sample."})
    seed: int = field(default=0, metadata={"help": "Another seed, another picture."})
    edit: Path | None = field(default=None, metadata={"help": "A picture of which a part is painted anew."})
    mask: Path | None = field(default=None, metadata={"help": "Which part: bright where --edit is painted anew."})
    inpainter: str = field(
        default="zoo:scenes-inpainter", metadata={"help": "Who edits: a run of the system inpainter."}
    )
    upsampler: str = field(
        default="", metadata={"help": "Who doubles the size: a run of the system upsampler, or none."}
    )
    clip: str = field(default="", metadata={"help": "A CLIP of noised pictures that guides too, a folder or zoo:NAME."})
    clip_scale: float = field(default=30.0, metadata={"help": "How much it guides."})

    def __post_init__(self) -> None:
        check_count("count", self.count)
        for name in ("scale", "clip_scale"):
            check_number(name, getattr(self, name))
        check_count("seed", self.seed, 0)
        if not self.caption.strip():
            raise ValueError("caption must not be empty: say what to paint, such as 'a red seven'")
        if self.out.suffix.lower() != ".png":
            raise ValueError(f"--out must be a picture, such as scene.png, got {str(self.out)!r}")
        if (self.edit is None) != (self.mask is None):
            raise ValueError("--edit and --mask go together: a picture, and where it is painted anew")


def paint(run: Any, request: PaintRequest) -> list[str]:
    """Paint pictures of a caption."""
    if request.edit is not None and not isinstance(run.module.net, CaptionedBeside):
        run = run.beside(request.inpainter)
    images = _small(run, request)
    if request.upsampler:
        large = run.beside(request.upsampler)
        net: Any = getattr(large.module, "net", None)
        if getattr(net, "shape", None) != tuple(images.shape[1:]):
            raise ValueError(f"--upsampler must name one of pictures {tuple(images.shape[1:])}, got {large.folder}")
        images = _run(large, request, net.guide(_tokens(large, request), in_bytes(images)))
    write_whole(request.out, png_of(images, text=request.caption))
    return [f"{request.caption}: {request.out}"]


def _small(run: Any, request: PaintRequest) -> Tensor:
    y = _tokens(run, request)
    if isinstance(run.module.net, CaptionedBeside):
        if run.module.net.shape != (run.shape[0] + 1, *run.shape[1:]):
            raise ValueError(f"{run.folder} enlarges pictures and makes none: give it as --upsampler")
        if request.edit is None or request.mask is None:
            raise ValueError(f"{run.folder} edits pictures: give it --edit and --mask")
        picture = read_picture(request.edit, run.shape)
        hole = read_mask(request.mask, request.edit, run.shape)
        beside = inpainting_guide(picture[None], 1 - hole[None]).to(run.device)
        y = run.module.net.guide(y, beside.expand(len(y), -1, -1, -1))
    return _run(run, request, y)


def _tokens(run: Any, request: PaintRequest) -> Tensor:
    if not isinstance(run.module.net, Captioned):
        raise ValueError(f"{run.folder} reads no captions")
    check_memory(request.count, run.shape)
    return run.module.net.tokenizer([request.caption] * request.count)


def _run(run: Any, request: PaintRequest, y: Tensor) -> Tensor:
    clip = clip_beside(run, request.clip, noised=True) if request.clip else None

    def wrap(field: Field) -> Field:
        if clip is None:
            return field
        return EnergyGuidance(field, text_energy(clip, [request.caption], request.clip_scale), conditional=True)

    return run.sample(
        y, scale=request.scale, steps=request.steps, method=request.method, seed=request.seed, wrap=wrap
    ).clamp(-1, 1)
