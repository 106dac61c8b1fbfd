"""`flowlib paint`: a picture of a caption, from nothing, at twice the size, or in a hole of a picture that there is.

Whoever draws from captions is a `Painter`: it says which of the options mean something to it, and paints. What changes
a painter before it paints, as LoRA does, is an `Adapter`: registered, it is an option here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import Tensor

from flowlib.checks import check_count, check_number
from flowlib.data.rewriting import rewrite
from flowlib.files import write_whole
from flowlib.plotting import png_of
from flowlib.systems.system import name_of
from flowlib.training.order import stream

PAINTER, INPAINTER = "zoo:scenes-text", "zoo:scenes-inpainter"  # the usual ones


@dataclass(frozen=True, kw_only=True)
class PaintRequest:
    """What `flowlib paint` is asked for. Options that are None are as the painter has them."""

    caption: str = field(metadata={"help": "What to paint, such as 'a red seven'.", "argument": True})
    out: Path = field(default=Path("scene.png"), metadata={"help": "The picture to write."})
    count: int = field(default=1, metadata={"help": "Pictures, side by side."})
    scale: float | None = field(
        default=None, metadata={"help": "Of a flow: guidance scale; 1 is none, 3 the default; more is closer."}
    )
    steps: int | None = field(default=None, metadata={"help": "Of a flow: steps of the sampler; 30 by default."})
    method: str | None = field(default=None, metadata={"help": "Of a flow: as in flowlib sample; heun by default."})
    temperature: float | None = field(
        default=None, metadata={"help": "Of tokens: below 1, the default, only what is probable is drawn."}
    )
    top_k: int | None = field(
        default=None, metadata={"help": "Of tokens: how many may be drawn at each place; 0, the default, is all."}
    )
    candidates: int | None = field(
        default=None, metadata={"help": "Of tokens: pictures to draw, of which CLIP chooses; --count by default."}
    )
    prior: str | None = field(
        default=None,
        metadata={"help": "Of unCLIP: diffusion, the default, autoregressive, none, or a prior's folder or zoo:NAME."},
    )
    prior_scale: float | None = field(
        default=None, metadata={"help": "Of unCLIP: the prior's own --scale; 2 by default."}
    )
    seed: int = field(default=0, metadata={"help": "Another seed, another picture."})
    edit: Path | None = field(default=None, metadata={"help": "A picture of which a part is painted anew."})
    mask: Path | None = field(default=None, metadata={"help": "Which part: bright where --edit is painted anew."})
    inpainter: str | None = field(
        default=None,
        metadata={"help": f"Who edits: a run of the system inpainter; {INPAINTER} by default.", "with": "edit"},
    )
    upsampler: str = field(
        default="", metadata={"help": "Who doubles the size: a run of the system upsampler; nobody by default."}
    )
    clip: str | None = field(
        default=None,
        metadata={"help": "A CLIP, a folder or zoo:NAME: of noised pictures to guide a flow, of clean ones to choose."},
    )
    clip_scale: float | None = field(
        default=None, metadata={"help": "Of a flow: how much --clip guides; 30 by default.", "with": "clip"}
    )
    rewrite: bool = field(default=False, metadata={"help": "Paint a descriptive caption, drawn to fit the given one."})

    def __post_init__(self) -> None:
        check_count("count", self.count)
        for name, most in (("scale", 1e3), ("clip_scale", 1e5), ("prior_scale", 1e3)):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), -most, most)
        if self.temperature is not None:
            check_number("temperature", self.temperature, 0, low_open=True)
        for name, least in (("steps", 1), ("top_k", 0), ("candidates", 1)):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), least)
        check_count("seed", self.seed, 0)
        if not self.caption.strip():
            raise ValueError("caption must not be empty: say what to paint, such as 'a red seven'")
        if self.out.suffix.lower() != ".png":
            raise ValueError(f"--out must be a picture, such as scene.png, got {str(self.out)!r}")
        if (self.edit is None) != (self.mask is None):
            raise ValueError("--edit and --mask go together: a picture, and where it is painted anew")

    def options(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a painter: what was asked for, and else what it has by default."""
        return {name: value if (asked := getattr(self, name)) is None else asked for name, value in defaults.items()}


@dataclass(frozen=True)
class Adapter:
    """What changes a painter: options of `flowlib paint`, each of which may be given several times.

    Attributes:
        options: the help of each by its name, such as "lora" for --lora.
        put: (run, **{option: what was given}) -> the run that paints; a ValueError for what does not fit it.
        wraps: whether it puts another network around the painter's, and so comes after those that change its weights.
    """

    options: Mapping[str, str]
    put: Callable[..., Any]
    wraps: bool = False


ADAPTERS: list[Adapter] = []


def register_adapter(adapter: Adapter) -> None:
    """Make the options of an adapter options of `flowlib paint`."""
    others = [one for one in ADAPTERS if one.options.keys() != adapter.options.keys()]  # a module may be loaded again
    ADAPTERS[:] = sorted([*others, adapter], key=lambda one: one.wraps)


def paint_request() -> type:
    """`PaintRequest` with a list for each option of a registered adapter, as `flowlib paint` asks for it."""
    options: list[Any] = [
        (name, list[str], field(default_factory=list, metadata={"help": text}))
        for adapter in ADAPTERS
        for name, text in adapter.options.items()
    ]
    return make_dataclass("PaintRequest", options, bases=(PaintRequest,), frozen=True, kw_only=True)


CHOICES = (  # a painter's
    "scale", "steps", "method", "temperature", "top_k", "candidates", "clip", "clip_scale", "prior", "prior_scale",
)  # fmt: skip


class Painter(Protocol):
    """A system that draws from captions.

    Attributes:
        paints: which of `CHOICES` mean something to it, and what each is by default.
        edits: whether it also reads a picture of which a part is painted anew; false where it does not say.
    """

    paints: ClassVar[Mapping[str, Any]]

    def painted(self, run: Any, request: PaintRequest, small: Tensor | None = None) -> Tensor:
        """Pictures of the request's caption (count, *shape) in [-1, 1]; of `small` ones, these enlarged.

        Raises:
            ValueError: for a request that does not fit the run.
        """
        ...


def painter(run: Any, option: str = "") -> Painter:
    """The system of a run, if it draws from captions; a ValueError if not, which names the option that asked for it."""
    system = run.recipe.system
    if not hasattr(system, "painted"):
        raise ValueError(f"{f'{option} ' if option else ''}{run.folder} reads no captions")
    return system


def paint(run: Any, request: PaintRequest) -> list[str]:
    """Paint pictures of a caption."""
    if request.rewrite:
        request = replace(request, caption=rewrite(request.caption, stream(request.seed, "rewriting")))
    if request.edit is not None and not getattr(run.recipe.system, "edits", False):
        if str(run.folder) != PAINTER and request.inpainter is None:
            raise ValueError(f"{run.folder} edits no pictures: name one that does, by --model or --inpainter")
        run = run.beside(request.inpainter or INPAINTER)
        if not getattr(run.recipe.system, "edits", False):
            raise ValueError(f"--inpainter must name a run of the system inpainter, got {run.folder}")
    system = painter(run)
    for adapter in ADAPTERS:
        given = {name: getattr(request, name, []) for name in adapter.options}
        if any(given.values()):
            run = adapter.put(run, **given)
    chain = [(run, system)]
    if request.upsampler:
        larger = run.beside(request.upsampler)
        chain.append((larger, painter(larger, "--upsampler")))
    known = {name for _, one in chain for name in one.paints}
    for name in CHOICES:
        if getattr(request, name) is not None and name not in known:
            option = name.replace("_", "-")
            raise ValueError(f"a run of the system {name_of(run.recipe.system)!r} takes no --{option}")
    images = None
    for one, system in chain:
        images = system.painted(one, request, images)
    assert images is not None
    write_whole(request.out, png_of(images, text=request.caption))
    return [f"{request.caption}: {request.out}"]
