"""CLIP: images and captions that belong together get near features (Radford et al. 2021).

A batch of N pairs is N questions: which of the N captions belongs to this image, and which of the N images to this
caption? Both are classifications whose classes are the batch itself. What is learned needs no labels: a label is a
caption too ("a red seven"), so that a classifier of any words can be asked for afterwards.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_choice, check_count
from flowlib.data import Data, Spec
from flowlib.data.pixels import read_picture
from flowlib.nets import ViT
from flowlib.nets.captioned_clip import CaptionedCLIP
from flowlib.nets.clip import CLIP, ImageCNN
from flowlib.nets.tokenizer import Tokenizer
from flowlib.nets.transformer import TextTransformer
from flowlib.paths import GaussianPath
from flowlib.schedules import SCHEDULES
from flowlib.systems.captions import chosen_captions, learned_captions
from flowlib.systems.system import Command, Parts, ReportRequest, Row, Splits, Stage, register
from flowlib.systems.zero_shot import retrieval, zero_shot
from flowlib.times import uniform_time
from flowlib.training import Task, Turn

__all__ = ["CLIP", "CLIPSystem", "CaptionedCLIP", "contrastive_loss"]

KINDS = ("caption", "noisy", "short")


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropies of both questions, in nats, and the share of images whose own text is the nearest.

    InfoNCE, both ways (Oord et al. 2018, equation 4; Radford et al. 2021, figure 3). Up to log N, its negative bounds
    the mutual information of image and text from below, and cannot exceed log N.

    Args:
        image, text: features (N, D), of whatever length: they are scaled to length 1; row i of both belongs together.
        scale: what cosines are multiplied by, a scalar.

    Raises:
        ValueError: for features of different shapes.
    """
    if image.shape != text.shape or image.ndim != 2:
        raise ValueError(f"text must have the shape of image, (N, D), got {tuple(text.shape)}, {tuple(image.shape)}")
    logits = scale * F.normalize(image, dim=1) @ F.normalize(text, dim=1).T
    own = torch.arange(len(logits), device=logits.device)
    loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    return loss, (logits.argmax(1) == own).float().mean()


@dataclass(frozen=True, kw_only=True)
class MatchRequest:
    """What `flowlib match` is asked for."""

    picture: Path = field(metadata={"help": "An image file.", "argument": True})
    texts: list[str] = field(metadata={"help": "Texts to choose from.", "argument": True})

    def __post_init__(self) -> None:
        if any(not text.strip() for text in self.texts):
            raise ValueError("texts must not be empty")
        if len(self.texts) < 2:
            raise ValueError("texts must be two or more, to choose from")


def match(run: Any, request: MatchRequest) -> list[str]:
    """Which of some texts fits a picture, as probabilities among them."""
    image = read_picture(request.picture, run.shape).to(run.device)
    with torch.no_grad():
        cosine = run.module.similarity(image[None], request.texts)[0]
        share = (run.module.scale() * cosine).softmax(0)
    order = share.argsort(descending=True).tolist()
    return [f"{float(share[i]):7.2%}  cosine {float(cosine[i]):+.3f}  {request.texts[i]}" for i in order]


def clip_beside(run: Any, name: str, noised: bool = False) -> CaptionedCLIP:
    """The CLIP that a command names, for the pictures of a run: "vit" is zoo:clip-vit; or "zoo:NAME", or a folder.

    Raises:
        RunError: if there is none.
        ValueError: if it is no CLIP, or one of other pictures: with other channels, or not `noised` as asked.
    """
    source = name if name.startswith("zoo:") or Path(name).exists() else f"zoo:clip-{name}"
    clip = run.beside(source).module
    if not isinstance(clip, CaptionedCLIP) or clip.image.in_channels != run.shape[0]:
        raise ValueError(f"--clip must name a CLIP of pictures with {run.shape[0]} channels, got {name!r}")
    if (clip.image.time is not None) != noised:
        raise ValueError(f"--clip must name a CLIP of {'noised' if noised else 'clean'} pictures, got {name!r}")
    return clip


@register("clip", commands=[Command("match", MatchRequest, match, help="Say which of some texts fits a picture.")])
@dataclass(frozen=True, kw_only=True)
class CLIPSystem:
    """An image encoder and a text encoder trained on pairs: `run.module` is a `CaptionedCLIP`.

    Attributes:
        encoder: of images, "vit" or "conv".
        image_args: arguments of the `ViT` or `ImageCNN`, besides shape and `out_dim`.
        width, depth, heads: of the text transformer.
        embedding: size of the features.
        vocabulary, length: tokens of the byte-pair encoding, and of a caption at most.
        captions: columns of the data from which each sample's caption is drawn anew in every step; one that is named
            twice is drawn twice as often.
        noised: a name in `flowlib.schedules.SCHEDULES`: the image encoder reads images noised to random times on its
            path, and is told the times, so that it can guide a field on that path; None for clean images.

    Raises:
        ValueError: for a value that does not fit, naming it.
    """

    stands_on: ClassVar[tuple[str, ...]] = ()

    encoder: str = "vit"
    image_args: Mapping[str, Any] = field(default_factory=dict)
    width: int = 96
    depth: int = 2
    heads: int = 4
    embedding: int = 64
    vocabulary: int = 512
    length: int = 32
    captions: tuple[str, ...] = KINDS
    noised: str | None = None
    parts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("encoder", self.encoder, ("vit", "conv"))
        # JSON, from which a run's recipe comes back, knows lists only.
        sizes = {name: tuple(value) if isinstance(value, list) else value for name, value in self.image_args.items()}
        object.__setattr__(self, "image_args", sizes)
        for name in ("width", "depth", "heads", "embedding"):
            check_count(name, getattr(self, name))
        if not self.captions:
            raise ValueError("captions must name columns of the data, got none")
        if self.noised is not None:
            check_choice("noised", self.noised, SCHEDULES)

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        missing = [name for name in self.captions if name not in spec.columns]
        if missing or len(spec.shape) != 3 or spec.shape[1] != spec.shape[2]:
            raise ValueError(f"CLIP needs square images and columns {self.captions}, got {spec.shape}, {spec.columns}")
        make = ViT if self.encoder == "vit" else ImageCNN
        common = {"in_channels": spec.shape[0], "image_size": spec.shape[1], "out_dim": self.embedding}
        image = make(**common, timed=self.noised is not None, **self.image_args)  # type: ignore[arg-type]
        tokenizer = Tokenizer(self.vocabulary, self.length)
        text = TextTransformer(
            self.vocabulary, self.length, tokenizer.end, width=self.width, depth=self.depth, heads=self.heads,
            gelu="quick",
        )  # fmt: skip
        return CaptionedCLIP(image, text, tokenizer)

    def stages(self, module: nn.Module, data: Data, parts: Parts) -> Sequence[Stage]:
        assert isinstance(module, CaptionedCLIP)
        module.tokenizer.learn(learned_captions(data, self.captions))
        path = None if self.noised is None else GaussianPath(SCHEDULES[self.noised]())

        def loss(turn: Turn) -> dict[str, Tensor]:
            batch, t = data.batch(turn.mine), None
            x, texts = batch["x"], chosen_captions(batch, self.captions, turn)
            if path is not None:
                t = uniform_time(len(turn.index), turn.generator)[turn.part].to(x)
                x = path.sample(x, t, turn.normal(*data.shape).to(x))
            image, text, scale = module.encode_image(x, t), module.read(texts), module.scale()
            value, right = contrastive_loss(turn.gather(image.float()), turn.gather(text.float()), scale)
            return {"loss": value, "matched": right, "scale": scale}

        return [Stage("clip", Task(module, loss, data.count, module))]

    def report(self, module: nn.Module, data: Splits, parts: Parts, request: ReportRequest) -> Sequence[Row]:
        """Retrieval among 256 test images, and labels of scenes read without ever having learned one."""
        assert isinstance(module, CaptionedCLIP)
        column = "caption" if "caption" in self.captions else self.captions[0]
        rows: list[Row] = [retrieval(module, data.test, column)]
        return [*rows, *zero_shot(module, data.test)] if "objects" in data.test.spec.columns else rows
