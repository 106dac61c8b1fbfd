"""DALL-E 3's captioner: it writes the captions that a painter learns from (Betker et al. 2023).

What makes it that: a language model whose prefix is a CLIP embedding of the image, trained together with that CLIP on
the captions that data come with; then trained on, with captions that name what there is, or that describe all of it.

    flowlib describe scene.png

Example:
    >>> import torch
    >>> from flowlib.data import load
    >>> from flowlib.runs import load_pretrained
    >>> from flowlib.systems.caption_writing import write_captions
    >>> from flowlib.systems.captioner import CaptionerSystem
    >>> run, scenes = load_pretrained("captioner-descriptive"), load("scenes", "test").batch(torch.arange(2))
    >>> isinstance(run.recipe.system, CaptionerSystem), run.recipe.system.captions
    (True, ('caption',))
    >>> write_captions(run.module, scenes["x"]) == scenes["caption"]  # of two scenes that it has never seen
    True
    >>> scenes["caption"][0]
    'a small pink five at the centre, on grey'
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_count, check_flag, check_number
from flowlib.data import Data, Spec
from flowlib.metrics.truth import caption_truth, check_scenes
from flowlib.nets.captioner import Captioner
from flowlib.plotting import captioned_grid
from flowlib.systems.caption_writing import write_captions
from flowlib.systems.captions import chosen_captions
from flowlib.systems.clip import CaptionedCLIP, contrastive_loss
from flowlib.systems.describing import DescribeRequest, describe
from flowlib.systems.system import Command, Parts, ReportRequest, Row, Splits, Stage, register
from flowlib.training import Task, Turn


def caption_loss(logits: Tensor, tokens: Tensor, padding: int) -> Tensor:
    """The mean of -log p(token | image, earlier tokens) over all tokens of texts but their first, in nats a token.

    Betker et al. (2023) state the sum over a text, given its image; padding is nobody's to predict.

    Args:
        logits: of what follows each token but the last, (B, N - 1, V).
        tokens: (B, N).
        padding: the token of places that a text leaves.

    Example:
        >>> tokens = torch.tensor([[0, 1, 2]])
        >>> round(float(caption_loss(torch.zeros(1, 2, 4), tokens, padding=2)), 4)  # log 4: only one is asked for
        1.3863
    """
    return F.cross_entropy(logits.float().transpose(1, 2), tokens[:, 1:], ignore_index=padding)


@dataclass(frozen=True, kw_only=True)
class CaptionReport(ReportRequest):
    """What is to be measured of a captioner.

    Attributes:
        samples: test images that are described.
        top_ks: a row for each, as in `next_token`: 1 is the most probable token, 0 a draw among all.
    """

    samples: int = 1000
    top_ks: tuple[int, ...] = (1, 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for top_k in self.top_ks:
            check_count("top_k", top_k, 0)


@register(
    "captioner",
    commands=[
        Command(
            "describe", DescribeRequest, describe, help="Write a caption of a picture.",
            model="zoo:captioner-descriptive",
        )
    ],
)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class CaptionerSystem:
    """A language model behind a CLIP embedding: `write_captions(run.module, images)`.

    Attributes:
        captions: columns of the data from which each sample's caption is drawn anew in every step.
        prefix: vectors that CLIP's embedding of an image becomes.
        places: whether its features of the image's places stand in the prefix too, as they do not in the paper. An
            embedding of 64 numbers holds too little of two digits: see `benchmarks/recaption.py captioners`.
        width, depth, heads: of the language model.
        tuned: whether the CLIP is trained too, or stays as it is.
        contrastive: weight of CLIP's own loss beside the language model's, 0 for none. The paper trains both together
            as Yu et al. (2022, CoCa, arXiv:2205.01917) do, who weigh them as 1 to 2.
        parts: "clip", a CLIP of clean pictures, which it starts from; or "base", a captioner with the settings of this
            one, which is trained on.

    Raises:
        ValueError: for a value that does not fit, naming it.
    """

    Reporting: ClassVar[type] = CaptionReport

    captions: tuple[str, ...] = ("noisy",)
    prefix: int = 4
    places: bool = True
    width: int = 96
    depth: int = 4
    heads: int = 4
    tuned: bool = True
    contrastive: float = 0.5
    parts: Mapping[str, str] = field(default_factory=lambda: {"clip": "zoo:clip-conv"})

    def __post_init__(self) -> None:
        for name in ("prefix", "width", "depth", "heads"):
            check_count(name, getattr(self, name))
        for name in ("places", "tuned"):
            check_flag(name, getattr(self, name))
        if check_number("contrastive", self.contrastive, 0) and not self.tuned:
            raise ValueError(f"contrastive must be 0 for a CLIP that is not trained, got {self.contrastive}")
        if not self.captions:
            raise ValueError("captions must name columns of the data, got none")
        if set(self.parts) not in ({"clip"}, {"base"}):
            raise ValueError(f"parts must be a clip, or a base that is trained on, got {sorted(self.parts)}")

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        missing = [name for name in self.captions if name not in spec.columns]
        if missing or len(spec.shape) != 3:
            raise ValueError(f"a captioner needs images with columns {self.captions}, got {spec.shape}, {spec.columns}")
        base = parts.get("base")
        if "base" in self.parts and not isinstance(base, Captioner):
            raise ValueError("the part 'base' must be a run of the system captioner")
        clip = parts.get("clip") if base is None else base.clip
        if not isinstance(clip, CaptionedCLIP) or clip.image.time is not None:
            raise ValueError("the part 'clip' must be a CLIP of clean pictures, trained without `noised`")
        if (clip.image.in_channels, clip.image.image_size) != spec.shape[:2]:
            raise ValueError(f"the part 'clip' must see pictures {spec.shape}, got {clip.image.image_size} pixels")
        own = copy.deepcopy(clip).requires_grad_(self.contrastive > 0)
        own.image.requires_grad_(self.tuned)  # which the language model reads
        made = Captioner(own, self.prefix, self.places, self.width, self.depth, self.heads)
        if base is not None:
            try:
                made.load_state_dict(base.state_dict())
            except RuntimeError:
                raise ValueError("the part 'base' must have the settings of this one") from None
        return made

    def stages(self, module: nn.Module, data: Data, parts: Parts) -> Sequence[Stage]:
        assert isinstance(module, Captioner)
        clip: Any = module.clip

        def loss(turn: Turn) -> dict[str, Tensor]:
            batch = data.batch(turn.mine)
            texts = chosen_captions(batch, self.captions, turn)
            tokens = module.read(texts)
            whole, places = clip.image(batch["x"], None)
            logits = module.gpt(tokens[:, :-1], prefix=module.prefix(whole, places))
            value = caption_loss(logits, tokens, module.tokenizer.padding)
            if not self.contrastive:
                return {"loss": value}
            apart, _ = contrastive_loss(turn.gather(whole.float()), turn.gather(clip.read(texts).float()), clip.scale())
            return {"loss": value + self.contrastive * apart, "text": value, "contrastive": apart}

        return [Stage("captioner", Task(module, loss, data.count, module))]

    def report(self, module: nn.Module, data: Splits, parts: Parts, request: CaptionReport) -> Sequence[Row]:
        """Rows of the truth of captions of test images: of the data's own, and of what it writes, by `top_ks`."""
        assert isinstance(module, Captioner)
        check_scenes(data.test)
        batch = data.test.batch(torch.arange(min(request.samples, len(data.test))))
        scenes = batch["objects"], batch["background"]
        rows: list[Row] = [{"captions": name} | caption_truth(batch[name], *scenes) for name in self.captions]
        for top_k in request.top_ks:
            texts = write_captions(module, batch["x"], top_k=top_k, seed=request.seed)
            rows.append({"captions": f"written, top {top_k}" if top_k else "written"} | caption_truth(texts, *scenes))
        return rows

    def illustrate(self, module: nn.Module, data: Data, parts: Parts, title: str) -> Any:
        """Sixteen images of the data, and what it says of them."""
        assert isinstance(module, Captioner)
        images = data.batch(torch.arange(16))["x"]
        # At first it writes bytes that no font has.
        texts = ["".join(c if c.isprintable() else "?" for c in text) for text in write_captions(module, images)]
        return captioned_grid(images.cpu(), texts, title=title)
