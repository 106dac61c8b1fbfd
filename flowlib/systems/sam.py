"""SAM: masks of whatever a prompt points at (Kirillov et al. 2023, arXiv:2304.02643).

What makes it SAM: a heavy image encoder, pre-trained as a masked autoencoder, sees an image once; points, boxes, masks
and texts become tokens, and a light decoder answers each prompt in milliseconds; one prompt may mean several things, so
three masks answer it and only the best of them is trained; prompts are simulated clicks in what is still wrong.

Example:
    >>> import torch
    >>> from flowlib.data import load
    >>> from flowlib.runs import load_pretrained
    >>> from flowlib.systems.sam import SAMSystem
    >>> run, scenes = load_pretrained("sam"), load("scenes", "test").batch(torch.arange(1))
    >>> isinstance(run.recipe.system, SAMSystem), scenes["caption"]
    (True, ['a small pink five at the centre, on grey'])
    >>> x, y = scenes["masks"][0, 0].nonzero()[0].flip(0).tolist()  # a pixel of the first digit
    >>> points, labels = torch.tensor([[[x + 0.5, y + 0.5]]]), torch.tensor([[1]])  # inside
    >>> with torch.no_grad():
    ...     logits, iou = run.module(scenes["x"], points, labels)
    >>> mask, truth = logits[0, iou[0].argmax()] > 0, scenes["masks"][0, 0]
    >>> bool((mask & truth).sum() / (mask | truth).sum() > 0.8)
    True
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_choice, check_count, check_number
from flowlib.data import Data, Spec
from flowlib.nets.mae import MaskedAutoencoder
from flowlib.nets.mask_decoder import MaskDecoder
from flowlib.nets.prompts import PromptEncoder
from flowlib.nets.sam import SAM, ImageEncoder
from flowlib.nets.two_way import TwoWayTransformer
from flowlib.systems.clip import CaptionedCLIP
from flowlib.systems.graphs import Graph
from flowlib.systems.mae import EncoderSettings, MAEStage
from flowlib.systems.mask_losses import mask_loss
from flowlib.systems.prompting import Chances, called, converse, crops_of, draw_chances, first_prompt
from flowlib.systems.regions import drawn_targets, regions_of
from flowlib.systems.sam_graphs import sam_graphs
from flowlib.systems.sam_report import MaskReport, overlay, report_masks
from flowlib.systems.segmenting import SegmentRequest, segment
from flowlib.systems.system import Command, Parts, Row, Splits, Stage, no_parts, register
from flowlib.training import Task, Turn

__all__ = ["SAM", "SAMSystem"]


@register(
    "sam",
    commands=[
        Command("segment", SegmentRequest, segment, help="Cut out what a point, box or text means.", model="zoo:sam")
    ],
)
@dataclass(frozen=True, kw_only=True)
class SAMSystem(EncoderSettings):
    """Masks from prompts: `run.module` is a `SAM`.

    Attributes:
        pretraining: as a masked autoencoder, trained before; None for none, or for a finished one, the part "mae".
        dim: size of the tokens and of the image embedding's channels, a multiple of 8.
        decoder_depth, decoder_heads, decoder_hidden: of the two-way transformer.
        masks: how many answer one prompt; 3 in the paper.
        targets: masks that are asked for of each image in a step.
        clicks: that follow the first prompt; 8 in the paper. Two more rounds have none.
        shared: the share of the steps, in [0, 1], over which the mean loss of all masks gives way to that of the best
            one; 0 in the paper. A mask that is worse than another everywhere from the start would never learn anything.
        rough, text: how often the first prompt is a rough drawing, or a text, where there is the part "clip"; the rest
            are points and boxes, as many of each.
        text_from: "crop": a text is learned as CLIP's feature of the mask's part of the image, in the place of which
            comes the feature of a text, as in the paper; "caption": of what the mask is called.
        parts: "mae", and "clip", by which texts are read.

    Raises:
        ValueError: for a value that does not fit, naming it.
    """

    Reporting: ClassVar[type] = MaskReport

    needs: ClassVar[Mapping[str, tuple[str, object]]] = {"text_from": ("text", True)}

    pretraining: MAEStage | None = None
    dim: int = 96
    decoder_depth: int = 2
    decoder_heads: int = 4
    decoder_hidden: int = 192
    masks: int = 3
    targets: int = 2
    clicks: int = 8
    shared: float = 0.1
    rough: float = 0.1
    text: float = 0.2
    text_from: str = "crop"
    parts: Mapping[str, str] = no_parts()

    def __post_init__(self) -> None:
        self.check_sizes()
        for name in ("dim", "decoder_depth", "decoder_heads", "decoder_hidden", "masks", "targets"):
            check_count(name, getattr(self, name))
        check_count("clicks", self.clicks, 0)
        check_number("shared", self.shared, 0, 1)
        check_number("rough", self.rough, 0, 1)
        check_number("text", self.text, 0, 1 - self.rough)
        check_choice("text_from", self.text_from, ("crop", "caption"))
        if self.pretraining is not None and "mae" in self.parts:
            raise ValueError("pretraining must be None where the part 'mae' is given: that is a finished one")
        if unknown := sorted(set(self.parts) - {"mae", "clip"}):
            raise ValueError(f"parts must be mae and clip, got {unknown}")

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        if "regions" not in spec.columns and not {"masks", "objects"} <= set(spec.columns):
            raise ValueError(f"SAM needs scenes, or data with a column 'regions', got columns {spec.columns}")
        vit, clip, mae = self.encoder(spec), parts.get("clip"), parts.get("mae")
        if clip is not None and (not isinstance(clip, CaptionedCLIP) or clip.image.in_channels != spec.shape[0]):
            raise ValueError("the part 'clip' must be a run of clip on such images")
        if mae is not None:
            if not isinstance(mae, MaskedAutoencoder):
                raise ValueError("the part 'mae' must be a run of mae")
            try:
                vit.load_state_dict(mae.encoder.state_dict())
            except RuntimeError:
                raise ValueError("the part 'mae' must have an encoder of the patch, width and depth of SAM's") from None
        side, size = spec.shape[1] // self.patch, (spec.shape[1], spec.shape[1])
        doublings = {2: 1, 4: 2}.get(self.patch)
        if doublings is None:
            raise ValueError(f"patch must be 2 or 4, so that masks have the size of the image; got {self.patch}")
        text_dim: Any = None if clip is None else clip.image.out_dim
        prompts = PromptEncoder(self.dim, (side, side), size, doublings=doublings, text_dim=text_dim)
        two_way = TwoWayTransformer(self.dim, self.decoder_depth, self.decoder_heads, self.decoder_hidden)
        return SAM(ImageEncoder(vit, self.dim), prompts, MaskDecoder(two_way, self.masks, doublings=doublings))

    def stages(self, module: nn.Module, data: Data, parts: Parts) -> Sequence[Stage]:
        assert isinstance(module, SAM)
        clip = parts.get("clip")
        last = Stage("sam", Task(module, lambda turn: self.loss(module, data, clip, turn), data.count, module))
        if self.pretraining is None:
            return [last]
        return [self.pretraining.stage(module.image_encoder.vit, data), last]  # type: ignore[arg-type]

    def loss(self, module: SAM, data: Data, clip: Any, turn: Turn) -> dict[str, Tensor]:
        """The mean of `mask_loss` over the rounds, and its parts; "first" and "last" are the masks' of those rounds."""
        batch = data.batch(turn.mine)
        which = torch.rand(len(turn.index), self.targets, generator=turn.generator)[turn.part]
        row, region, truth, draw = drawn_targets(regions_of(batch), which)
        chances = Chances(*(one[draw.cpu()] for one in draw_chances(turn, self.targets, self.clicks)))
        kind, rest = torch.rand(2, generator=turn.generator).tolist()
        first = self.first(kind, clip if "objects" in batch else None)
        text = None
        if first == "text":
            with torch.no_grad():
                names = called(batch["objects"][row], region) if self.text_from == "caption" else None
                seen = None if names else crops_of(batch["x"][row], truth, chances)
                text = clip.text_features(names) if names else clip.image_features(seen)
        prompts = first_prompt(first, truth, chances, text)
        rests = (1 + int(rest * (self.clicks + 1)), self.clicks + 2)
        rounds = converse(module, module.embed(batch["x"])[row], truth, prompts, chances, rests)
        shared = max(0.0, 1 - turn.step / (self.shared * turn.steps)) if self.shared else 0.0
        losses = [mask_loss(logits, iou, truth, shared) for logits, iou in rounds]
        mean = {name: torch.stack([one[name] for one in losses]).mean() for name in losses[0]}
        return mean | {"first": losses[0]["mask"].detach(), "last": losses[-1]["mask"].detach()}

    def first(self, chance: float, clip: Any) -> str:
        """The kind of the first prompt, by a uniform number: `rough`, then `text`, then points and boxes."""
        text = 0.0 if clip is None else self.text
        if chance < self.rough + text:
            return "mask" if chance < self.rough else "text"
        return "point" if chance - self.rough - text < (1 - self.rough - text) / 2 else "box"

    def report(self, module: nn.Module, data: Splits, parts: Parts, request: Any) -> Sequence[Row]:
        return report_masks(module, data, parts, request)

    def graphs(self, module: nn.Module, spec: Spec) -> Sequence[Graph]:
        """What `flowlib export` writes."""
        return sam_graphs(module, spec)

    def illustrate(self, module: nn.Module, data: Data, parts: Parts, title: str) -> Any:
        """Eight images, and below each the three masks that one click on a stroke has for an answer."""
        return overlay(module, data, title)
