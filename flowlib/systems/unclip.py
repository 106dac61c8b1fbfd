"""DALL-E 2 (unCLIP): a picture is painted from CLIP's embedding of it (Ramesh et al. 2022, arXiv:2204.06125).

What makes it unCLIP: a prior (`flowlib.systems.unclip_prior`) draws an embedding for a caption; the decoder, GLIDE's
network, is given it beside the caption, through the time and as four tokens of context. In training the embedding is
dropped with probability 0.1 and the caption with 0.5, each on its own.

    flowlib paint "a red seven" --model RUN --prior autoregressive
    flowlib vary picture.png --model RUN --count 8
    flowlib blend one.png two.png --model RUN

Example:
    >>> import torch
    >>> from flowlib.data import load
    >>> from flowlib.runs import load_pretrained
    >>> from flowlib.systems.embedded import embed_images
    >>> from flowlib.systems.unclip import UnCLIPSystem
    >>> run, x = load_pretrained("unclip"), load("scenes", "test").batch(torch.arange(2))["x"]
    >>> isinstance(run.recipe.system, UnCLIPSystem)
    True
    >>> net = run.module.net
    >>> guides = net.guide(net.tokenizer(["", ""]), embed_images(run.parts["clip"], x))
    >>> run.sample(guides, steps=2).shape  # no captions: what CLIP sees in the pictures, painted anew
    torch.Size([2, 3, 16, 16])
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_number
from flowlib.data import Data, Spec
from flowlib.fields import Model
from flowlib.nets.captioned import Captioned
from flowlib.nets.tokenizer import Tokenizer
from flowlib.nets.transformer import TextTransformer
from flowlib.nets.unclip import CaptionedEmbedding
from flowlib.plotting import captioned_grid
from flowlib.systems.captions import chosen_captions, learned_captions
from flowlib.systems.embedded import check_parts, embed_images
from flowlib.systems.glide import GlideSystem, start_from
from flowlib.systems.painting import PaintRequest
from flowlib.systems.prior_sampling import check_clip
from flowlib.systems.sampling import FlowRequest
from flowlib.systems.system import Command, Parts, Row, Splits, Stage, register
from flowlib.systems.unclip_editing import BlendRequest, VaryRequest, blend, vary
from flowlib.systems.unclip_painting import OPTIONS, PRIORS, paint_embedding
from flowlib.systems.unclip_report import EmbeddingReport, report_embeddings
from flowlib.training import Turn


@register(
    "unclip",
    commands=[
        Command("vary", VaryRequest, vary, help="Draw a picture anew, or turn it to a text.", model="zoo:unclip"),
        Command("blend", BlendRequest, blend, help="Draw what lies between two pictures.", model="zoo:unclip"),
    ],
)
@dataclass(frozen=True, kw_only=True)
class UnCLIPSystem(GlideSystem):
    """A flow of images from captions and embeddings: `run.sample(net.guide(net.tokenizer(texts), embeddings))`.

    Attributes:
        dropout: how often the caption is dropped, 0.5 in the paper.
        embedding_dropout: how often the embedding is, 0.1 in the paper.
        parts: "clip", a CLIP of clean pictures; perhaps "base", a painter whose network has the settings of this one
            and whose weights it starts from; and perhaps "diffusion" and "autoregressive", the priors it paints with.

    The others are those of GLIDE.

    Raises:
        ValueError: for a value that does not fit, naming it.
    """

    stands_on: ClassVar[tuple[str, ...]] = ("clip", "base", *PRIORS)
    Reporting: ClassVar[type] = EmbeddingReport
    paints: ClassVar[Mapping[str, Any]] = OPTIONS

    dropout: float = 0.5
    embedding_dropout: float = 0.1
    parts: Mapping[str, str] = field(default_factory=lambda: {"clip": "zoo:clip-conv"})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("embedding_dropout", self.embedding_dropout, 0, 1)
        if "clip" not in self.parts or set(self.parts) - {"clip", "base", *PRIORS}:
            raise ValueError(f"parts must be clip, and perhaps base, {', '.join(PRIORS)}; got {sorted(self.parts)}")

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> Model:
        clip = check_parts(spec, parts, self.captions)
        for name in PRIORS:
            if name in parts:
                check_clip(f"the part {name!r}", parts[name], clip)
        made = super().build(spec, parts, generator)
        if "base" not in parts:
            return made
        more = [name for name in made.state_dict() if name.startswith(("net.added.", "net.tokens."))]
        return start_from(parts["base"], made, more)

    def captioned(
        self, net: Any, text: TextTransformer, tokenizer: Tokenizer, shape: tuple[int, ...], parts: Parts
    ) -> Captioned:
        clip: Any = parts["clip"]
        return CaptionedEmbedding(net, text, tokenizer, net.condition_dim, clip.image.out_dim, self.reach)

    def stages(self, module: nn.Module, data: Data, parts: Parts) -> Sequence[Stage]:
        assert isinstance(module, Model)
        clip: Any = parts["clip"]
        net: Any = module.net
        if "base" not in parts:
            net.tokenizer.learn(learned_captions(data, self.captions))

        def draw(index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            batch = data.batch(index)
            tokens = net.tokenizer(chosen_captions(batch, self.captions, Turn(index, slice(None), generator)))
            return batch["x"], net.guide(tokens, embed_images(clip, batch["x"]))

        return [Stage("decoder", lambda settings: self.task(module, module, draw, data.count, settings, data.levels))]

    def dropped(self, model: Model, y: Tensor, generator: torch.Generator) -> Tensor:
        """Guides of which some have lost the caption, some the embedding, and some both."""
        chance = torch.rand(len(y), 2, generator=generator)
        net: Any = model.net
        lost = chance < torch.tensor([self.dropout, self.embedding_dropout])
        length = net.tokenizer.length
        drop = torch.cat([lost[:, :1].expand(-1, length), lost[:, 1:].expand(-1, net.size)], dim=1)
        return torch.where(drop.to(y.device), net.null, y)

    def painted(self, run: Any, request: PaintRequest, small: Tensor | None = None) -> Tensor:
        """Pictures of a caption (count, *shape), as `flowlib paint` wants them."""
        return paint_embedding(run, request, small)

    def report(self, module: nn.Module, data: Splits, parts: Parts, request: Any) -> Sequence[Row]:
        return report_embeddings(self, module, data, parts, request)

    def illustrate(self, module: nn.Module, data: Data, parts: Parts, title: str) -> Any:
        """Sixteen captions of the data, and what is made of them and of the embeddings of their pictures."""
        batch = data.batch(torch.arange(16))
        texts, net, clip = batch[self.captions[0]], module.net, parts["clip"]
        y = net.guide(net.tokenizer(texts), embed_images(clip, batch["x"]))  # type: ignore[operator, union-attr, arg-type]
        request = FlowRequest(spec=data.spec, y=y, count=16, scale=2.0, steps=20)
        return captioned_grid(self.sample(module, parts, request).cpu(), texts, title=title)
