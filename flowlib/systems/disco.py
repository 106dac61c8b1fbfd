"""Disco Diffusion: an unconditional flow follows the gradient of CLIPs' distances to prompts (Crowson, Somnai 2022).

    flowlib disco "a red seven:2" "blue:-0.5" --steps 50 --cuts 16 --clip vit,conv --out disco.png

What makes it Disco: the CLIP is shown many cut-outs of the predicted clean picture, wide ones early and small ones
late; features are compared on the sphere; prompts have weights, also negative ones; several CLIPs guide at once; and
what is added to the score is bounded, so that 15 to 100 steps of DDIM are enough (`Disco.sample`).

Nothing of it is trained but, where it is wanted, the secondary model: a small flow whose predicted clean picture is
looked at in place of the large one's. Disco looks at beta D + (1 - beta) x; here it is D alone.

Example:
    >>> import torch
    >>> from flowlib.runs import load_pretrained
    >>> from flowlib.systems.disco import Disco, DiscoSystem, parse_prompts, targets_of
    >>> small, flow, clip = (load_pretrained(name) for name in ("scenes-secondary", "scenes", "clip-conv"))
    >>> isinstance(small.recipe.system, DiscoSystem)  # a secondary model, which is looked through
    True
    >>> disco = Disco(steps=4, cuts=None, scale=100.0)
    >>> targets = [targets_of(clip.module, parse_prompts(["a red seven"]), [], None, torch.Generator())]
    >>> disco.sample(flow.module, [clip.module], targets, flow.noise(1), secondary=small.module).shape
    torch.Size([1, 3, 16, 16])
"""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowlib.checks import check_count
from flowlib.data.pixels import read_picture
from flowlib.field import Field
from flowlib.files import check_place, write_all
from flowlib.plotting import animate, png_of
from flowlib.systems.clip import clip_beside
from flowlib.systems.cut_schedule import Cuts
from flowlib.systems.disco_losses import targets_of
from flowlib.systems.disco_sampling import Disco
from flowlib.systems.flow import FlowSystem
from flowlib.systems.system import Command, register
from flowlib.systems.weighted import parse_prompts
from flowlib.training.order import stream

SHOWN = 12  # pictures of the way there


def _option(default: Any, text: str, **goes: str) -> Any:
    return field(default=default, metadata={"help": text, **goes})


@dataclass(frozen=True, kw_only=True)
class DiscoRequest:
    """What `flowlib disco` is asked for."""

    prompts: list[str] = field(metadata={"help": "Prompts with weights, such as 'a red seven:2'.", "argument": True})
    out: Path = field(
        default=Path("disco.png"),
        metadata={"help": "The picture; beside it, the way there as disco-way.png and disco.gif."},
    )
    clip: str = _option("conv", "CLIPs, joined by commas: conv is zoo:clip-conv; or folders of runs.")
    steps: int = _option(Disco.steps, "Steps of DDIM, 15 to 100.")
    cuts: int = _option(Cuts.count, "Cut-outs a step; 0 shows the CLIP the picture alone.")
    overview: str = _option(Cuts.overview, "Schedule of the cut-outs that see the whole picture.", **{"with": "cuts"})
    inner: str = _option(Cuts.inner, "Schedule of those that see a part.", **{"with": "cuts"})
    augment: bool = _option(True, "Turn, move, noise and recolour each cut-out a little.", **{"with": "cuts"})
    images: list[str] = field(default_factory=list, metadata={"help": "A picture to be like, with a weight."})
    init: Path | None = field(default=None, metadata={"help": "A picture to start from."})
    skip: int = _option(10, "Steps not taken with --init.", **{"with": "init"})
    init_scale: float = _option(Disco.init_scale, "Pull to the picture of --init.", **{"with": "init"})
    scale: float = _option(Disco.scale, "Weight of the prompts among the losses.")
    bound: float = _option(Disco.bound, "Largest root mean square added to the score; 0 for none.")
    eta: float = _option(Disco.eta, "New noise in each step, 0 ... 1.")
    variation: float = _option(Disco.variation, "Weight of the total variation.")
    range: float = _option(Disco.range, "Weight of the squared distance to [-1, 1].")
    saturation: float = _option(Disco.saturation, "Weight of the distance to [-1, 1].")
    secondary: str = _option("", "A smaller flow to look through, a folder or zoo:NAME.")
    count: int = _option(1, "Pictures, side by side.")
    seed: int = _option(0, "Another seed, another picture.")

    def __post_init__(self) -> None:
        parse_prompts([*self.prompts, *self.images])
        check_count("count", self.count)
        check_count("cuts", self.cuts, 0)
        self.settings()
        if self.out.suffix.lower() != ".png":
            raise ValueError(f"--out must be a picture, such as disco.png, got {str(self.out)!r}")
        if not all(name.strip() for name in self.clip.split(",")):
            raise ValueError(f"--clip must name CLIPs, such as vit,conv, got {self.clip!r}")

    def settings(self) -> Disco:
        """How the flow is guided."""
        cuts = Cuts(self.cuts, self.overview, self.inner, augment=self.augment) if self.cuts else None
        return Disco(
            steps=self.steps, eta=self.eta, scale=self.scale, bound=self.bound or None, cuts=cuts,
            variation=self.variation, range=self.range, saturation=self.saturation, init_scale=self.init_scale,
            skip=self.skip if self.init else 0, seed=self.seed,
        )  # fmt: skip


def disco(run: Any, request: DiscoRequest) -> list[str]:
    """Paint what prompts ask for, by a flow that knows no words."""
    if not isinstance(run.recipe.system, FlowSystem) or len(run.shape) != 3:
        raise ValueError(f"disco needs a flow of pictures, got {run.folder}")
    for path in _beside(request.out):
        check_place(path)
    clips = [clip_beside(run, name.strip()) for name in request.clip.split(",")]
    secondary = _looked_through(run, request.secondary) if request.secondary else None
    weighted, settings = parse_prompts([*request.prompts, *request.images]), request.settings()
    texts, images = weighted[: len(request.prompts)], weighted[len(request.prompts) :]
    pictures = [(read_picture(Path(path), run.shape).to(run.device), weight) for path, weight in images]
    init = None if request.init is None else read_picture(request.init, run.shape).to(run.device)
    cuts = stream(request.seed, "cuts of prompts")
    targets = [targets_of(clip, texts, pictures, settings.cuts, cuts) for clip in clips]
    noise = run.noise(request.count, request.seed)
    states = settings.sample(run.module, clips, targets, noise, init=init, secondary=secondary, trajectory=True)
    if not bool(states.isfinite().all()):
        raise ValueError("the prompts have thrown a picture off, to what are no numbers: lower --scale, or set --bound")
    return _write(states.cpu(), request.out, settings.skip / settings.steps)


def _looked_through(run: Any, source: str) -> Field:
    """The secondary flow; a ValueError if it is none of the pictures of the first."""
    second = run.beside(source)
    if not isinstance(second.recipe.system, FlowSystem) or second.shape != run.shape:
        raise ValueError(f"--secondary must name a flow of pictures {tuple(run.shape)}, got {second.folder}")
    return second.module


def _beside(out: Path) -> tuple[Path, Path]:
    """The files beside the picture: the sheet of the way there, and the same moving."""
    return out.with_name(f"{out.stem}-way.png"), out.with_suffix(".gif")


def _write(states: Tensor, out: Path, start: float) -> list[str]:
    """The last of the states (T, N, C, H, W) as a picture, some of them as a sheet, all from time `start` as a GIF."""
    chosen = torch.linspace(0, len(states) - 1, min(SHOWN, len(states))).round().long()
    way, moving = _beside(out)
    sheet = states[chosen].transpose(0, 1).flatten(0, 1)  # a row for each picture
    film = io.BytesIO()
    animate(states if len(states) > 1 else states.expand(2, -1, -1, -1, -1), film, columns=10, start=start)
    contents = png_of(states[-1]), png_of(sheet, columns=len(chosen), side=96), film.getvalue()
    write_all(dict(zip((out, way, moving), contents, strict=True)))
    return [f"the picture: {out}", f"the way there: {way}, {moving}"]


@register(
    "disco",
    commands=[
        Command(
            "disco", DiscoRequest, disco, help="Paint what weighted prompts ask for, guided by CLIPs.", anywhere=True,
            model="zoo:scenes",
        )
    ],
)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class DiscoSystem(FlowSystem):
    """The secondary model: a small flow without a guide, which `flowlib disco --secondary` looks through."""

    guided: bool = False
