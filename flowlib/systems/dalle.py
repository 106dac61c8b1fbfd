"""DALL-E: an image is a sentence (Ramesh et al. 2021, arXiv:2102.12092).

What makes it DALL-E: a discrete autoencoder turns an image into a grid of tokens; one causal transformer learns texts
and images as one stream of tokens, with sparse attention among those of the image; an image is written token by token
behind its caption; of several, CLIP chooses.

Example:
    >>> from flowlib.runs import load_pretrained
    >>> from flowlib.systems.dalle import DALLESystem
    >>> run = load_pretrained("dalle")
    >>> isinstance(run.recipe.system, DALLESystem), run.recipe.system.layers
    (True, 'sparse')
    >>> run.sample(run.module.read(["a red seven"])).shape  # written token by token
    torch.Size([1, 3, 16, 16])
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlib.checks import check_choice, check_count, check_number
from flowlib.data import Data, Spec
from flowlib.nets.discrete import DiscreteAutoencoder
from flowlib.nets.patterns import LAYERS, layer_patterns
from flowlib.nets.text_image import DALLE, TextImageGPT
from flowlib.nets.tokenizer import Tokenizer
from flowlib.plotting import captioned_grid
from flowlib.systems.captions import chosen_captions, learned_captions
from flowlib.systems.dalle_report import TokenReport, report_tokens
from flowlib.systems.dvae import DVAEStage
from flowlib.systems.painting import PAINTER, PaintRequest, paint, paint_request
from flowlib.systems.system import Command, Parts, Row, Splits, Stage, no_parts, register
from flowlib.systems.token_painting import OPTIONS, paint_tokens
from flowlib.systems.token_sampling import TokenRequest, sample_tokens
from flowlib.training import Task, Training, Turn


def dalle_loss(
    logits: Tensor, tokens: Tensor, length: int, padding: int, text_weight: float = 1 / 8
) -> dict[str, Tensor]:
    """`text_weight` times the cross-entropy of text tokens plus the rest times that of image tokens, in nats a token.

    Each is a mean over the tokens of its kind in the batch (section 2.2); padding is nobody's to predict.

    Args:
        logits: of what follows each token but the last, (B, N - 1, V).
        tokens: (B, N), of which the first `length` are the text's.
        padding: the token of places that a text leaves.

    Returns:
        "loss", "text" and "image".
    """
    targets = tokens[:, 1:]
    nats = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=padding, reduction="none")
    said = (targets[:, : length - 1] != padding).sum()
    text, image = nats[:, : length - 1].sum() / said, nats[:, length - 1 :].mean()
    return {"loss": text_weight * text + (1 - text_weight) * image, "text": text, "image": image}


@register(
    "dalle",
    commands=[Command("paint", paint_request, paint, help="Paint a picture of a caption.", model=PAINTER)],
)
@dataclass(frozen=True, kw_only=True)
class DALLESystem:
    """Images from captions, token by token: `run.sample(run.module.read(["a red seven"]), candidates=16)`.

    Attributes:
        first_stage: the discrete autoencoder, which is trained before; None for a finished one, the part "dvae": a run
            of the system dvae with the logit-Laplace likelihood.
        captions: columns of the data from which each sample's caption is drawn anew in every step.
        width, depth, heads: of the transformer.
        layers: which patterns of attention its layers have, "sparse" or "full"; kernel: of the convolution-shaped one.
        vocabulary, length: tokens of the byte-pair encoding, and of a caption at most.
        text_weight: of the text in the loss, in [0, 1); 1/8 in the paper.
        parts: "dvae", and "clip", which chooses among several images of one caption.

    Raises:
        ValueError: for a value that does not fit, naming it.
    """

    Sampling: ClassVar[type] = TokenRequest
    Reporting: ClassVar[type] = TokenReport
    paints: ClassVar[Mapping[str, Any]] = OPTIONS

    needs: ClassVar[Mapping[str, tuple[str, object]]] = {"kernel": ("layers", "sparse")}

    first_stage: DVAEStage | None = None
    captions: tuple[str, ...] = ("caption", "short")
    width: int = 128
    depth: int = 6
    heads: int = 4
    layers: str = "sparse"
    kernel: int = 3
    vocabulary: int = 512
    length: int = 24
    text_weight: float = 1 / 8
    parts: Mapping[str, str] = no_parts()

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads"):
            check_count(name, getattr(self, name))
        check_choice("layers", self.layers, LAYERS)
        check_number("text_weight", self.text_weight, 0, 1, high_open=True)
        if not self.captions:
            raise ValueError("captions must name columns of the data, got none")
        if (self.first_stage is None) != ("dvae" in self.parts):
            raise ValueError("first_stage must be given, or a finished one as the part 'dvae', and not both")
        if self.first_stage is not None and self.first_stage.likelihood != "logit-laplace":
            raise ValueError("first_stage.likelihood must be 'logit-laplace': its pixels need a distribution")
        if unknown := sorted(set(self.parts) - {"dvae", "clip"}):
            raise ValueError(f"parts must be dvae and clip, got {unknown}")

    def build(self, spec: Spec, parts: Parts, generator: torch.Generator) -> nn.Module:
        missing = [name for name in self.captions if name not in spec.columns]
        if missing or len(spec.shape) != 3 or spec.levels is None:
            raise ValueError(f"DALL-E needs pictures with columns {self.captions}, got {spec.shape}, {spec.columns}")
        dvae = parts.get("dvae") if self.first_stage is None else self.first_stage.network(spec)
        dvae = getattr(dvae, "dvae", dvae)  # of another DALL-E
        if not isinstance(dvae, DiscreteAutoencoder) or not dvae.has_law or dvae.in_channels != spec.shape[0]:
            raise ValueError("the part 'dvae' must be a run of dvae on such images, with likelihood 'logit-laplace'")
        rows, columns = (size // dvae.factor for size in spec.shape[1:])
        tokenizer = Tokenizer(self.vocabulary, self.length)
        pattern = layer_patterns(self.layers, self.depth, self.length, rows, columns, self.kernel)
        gpt = TextImageGPT(
            self.vocabulary, self.length, dvae.tokens, (rows, columns), tokenizer.padding, (tokenizer.start,),
            self.width, self.depth, self.heads, pattern,
        )  # fmt: skip
        return DALLE(dvae if self.first_stage is not None else copy.deepcopy(dvae), gpt, tokenizer)

    def stages(self, module: nn.Module, data: Data, parts: Parts) -> Sequence[Stage]:
        assert isinstance(module, DALLE)
        module.tokenizer.learn([text.lower() for text in learned_captions(data, self.captions)])
        second = Stage("tokens", lambda settings: self.task(module, data, settings))
        return [second] if self.first_stage is None else [self.first_stage.stage(module.dvae, data), second]

    def task(self, module: DALLE, data: Data, settings: Training) -> Task:
        """Learning the stream of tokens: of a caption, and the most probable ones of its image."""
        module.dvae.eval().requires_grad_(False)

        def loss(turn: Turn) -> dict[str, Tensor]:
            batch = data.batch(turn.mine)
            tokens = module.joined(module.read(chosen_captions(batch, self.captions, turn)), module.encode(batch["x"]))
            logits = module.gpt(tokens[:, :-1])
            return dalle_loss(logits, tokens, self.length, module.gpt.pad, self.text_weight)

        return Task(module, loss, data.count, module.gpt)

    def sample(self, module: Any, parts: Parts, request: TokenRequest) -> Tensor:
        """Images (count, *shape), float32; of `candidates` for each text the one that CLIP finds nearest to it."""
        return sample_tokens(module, parts.get("clip"), request)

    def painted(self, run: Any, request: PaintRequest, small: Tensor | None = None) -> Tensor:
        """Pictures of a caption (count, *shape), as `flowlib paint` wants them."""
        return paint_tokens(run, request, small)

    def guides(self, *_: Any) -> None:
        """None: `flowlib sample` draws captions too, and `flowlib paint` is given one."""

    def report(self, module: nn.Module, data: Splits, parts: Parts, request: TokenReport) -> Sequence[Row]:
        return report_tokens(self, module, data, parts, request)

    def illustrate(self, module: nn.Module, data: Data, parts: Parts, title: str) -> Any:
        """Sixteen captions of the data, and what is made of them."""
        assert isinstance(module, DALLE)
        texts = data.batch(torch.arange(16))[self.captions[0]]
        request = TokenRequest(spec=data.spec, y=module.read(texts), count=16)
        return captioned_grid(self.sample(module, parts, request).cpu().clamp(-1, 1), texts, title=title)
