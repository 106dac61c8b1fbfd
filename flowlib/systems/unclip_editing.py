"""Pictures from pictures, by unCLIP: variations, what lies between two, and changes that a text names.

A picture is an embedding, what CLIP sees in it, and a latent, which is all the rest: the noise from which the decoder
under that embedding makes this picture, found by DDIM's steps backwards (Ramesh et al. 2022, arXiv:2204.06125, on image
manipulations). Latents of flat pictures are smaller than noise is: what the decoder rounds away says nothing of them.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from flowlib.chains import encode_ddim
from flowlib.checks import check_count, check_number
from flowlib.data.pixels import read_same_size
from flowlib.ddim import sample_ddim
from flowlib.field import Field
from flowlib.files import write_whole
from flowlib.guidance import ClassifierFreeGuidance
from flowlib.plotting import png_of
from flowlib.precision import double
from flowlib.systems.embedded import embed_images
from flowlib.systems.sampling import check_memory
from flowlib.training.devices import autocast
from flowlib.training.order import stream


def slerp(a: Tensor, b: Tensor, share: float | Tensor) -> Tensor:
    """From a to b along the sphere: sin((1 - s) w) / sin w a + sin(s w) / sin w b, w the angle between them.

    Of vectors of other lengths than 1, w is the angle of their directions (Shoemake 1985).

    Args:
        a, b: (B, ...) of one shape; all that is behind B is one vector.
        share: s in [0, 1], for all or (B,).

    Raises:
        ValueError: for shapes that do not fit, or where a and b point to opposite sides: no way between is shorter than
            another.

    Example:
        >>> import math
        >>> between = slerp(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 1 / 3)
        >>> bool(torch.allclose(between, torch.tensor([[math.cos(math.pi / 6), math.sin(math.pi / 6)]])))
        True
    """
    if a.shape != b.shape or a.ndim < 2:
        raise ValueError(f"b must have the shape of a, (B, ...), got {tuple(b.shape)} and {tuple(a.shape)}")
    one, other = (F.normalize(double(x.flatten(1)), dim=1) for x in (a, b))
    # Not by the cosine, which knows small angles badly.
    angle = 2 * torch.atan2((one - other).norm(dim=1), (one + other).norm(dim=1))
    if bool((torch.pi - angle < 1e-4).any()):
        raise ValueError("a and b must not point to opposite sides: there is no shortest way between them")
    s = torch.as_tensor(share, dtype=angle.dtype, device=angle.device).expand_as(angle)
    near = angle < 1e-6
    safe = torch.where(near, 1.0, angle)
    weights = [torch.where(near, k, torch.sin(k * safe) / torch.sin(safe)) for k in (1 - s, s)]
    of_a, of_b = (weight.to(a).view(-1, *[1] * (a.ndim - 1)) for weight in weights)
    return of_a * a + of_b * b


@dataclass(frozen=True, kw_only=True)
class EditRequest:
    """What `vary` and `blend` share."""

    out: Path = field(default=Path("sheet.png"), metadata={"help": "The picture to write, a contact sheet."})
    count: int = field(default=7, metadata={"help": "Pictures to draw."})
    steps: int = field(default=50, metadata={"help": "Steps of DDIM, to the latent and back."})
    scale: float = field(default=1.0, metadata={"help": "Guidance scale of the decoder; 1 is none."})

    def __post_init__(self) -> None:
        check_count("count", self.count)
        check_count("steps", self.steps, 2)
        check_number("scale", self.scale, -1e3, 1e3)
        if self.out.suffix.lower() != ".png":
            raise ValueError(f"--out must be a picture, such as sheet.png, got {str(self.out)!r}")


@dataclass(frozen=True, kw_only=True)
class VaryRequest(EditRequest):
    """What `flowlib vary` is asked for."""

    picture: Path = field(metadata={"help": "A picture of the decoder's size.", "argument": True})
    eta: float = field(
        default=1.0,
        metadata={
            "help": "How freely it varies, 0 to 1: 0 is the picture itself, 1 what CLIP sees in it.",
            "without": "towards",
        },
    )
    seed: int = field(
        default=0, metadata={"help": "Another seed, other variations.", "with": "eta", "without": "towards"}
    )
    towards: str = field(default="", metadata={"help": "Turn the picture to this text, step by step, at eta 0."})
    instead_of: str = field(
        default="", metadata={"help": "A text that says what the picture shows now.", "with": "towards"}
    )
    reach: float = field(
        default=0.5, metadata={"help": "How far it is turned at the end, 0 to 1; 0.25 to 0.5.", "with": "towards"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("eta", self.eta, 0, 1)
        check_number("reach", self.reach, 0, 1)
        check_count("seed", self.seed, 0)


@dataclass(frozen=True, kw_only=True)
class BlendRequest(EditRequest):
    """What `flowlib blend` is asked for."""

    first: Path = field(metadata={"help": "A picture of the decoder's size.", "argument": True})
    second: Path = field(metadata={"help": "Another.", "argument": True})


class Decoder:
    """A run of unCLIP as it reads pictures and draws them again, without captions.

    Args:
        run: of the system unclip.
        scale: of classifier-free guidance.
        steps: of DDIM.
    """

    def __init__(self, run: Any, scale: float = 1.0, steps: int = 50) -> None:
        self.run, self.net, self.clip, self.steps = run, run.module.net, run.parts["clip"], steps
        self.field: Field = run.module if scale == 1 else ClassifierFreeGuidance(run.module, scale)

    def guides(self, embedding: Tensor) -> Tensor:
        """The guides of embeddings (B, size) beside the empty caption."""
        return self.net.guide(self.net.tokenizer([""] * len(embedding)), embedding)

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (B, size) and latents (B, C, H, W) of pictures."""
        embedding = embed_images(self.clip, images)
        with autocast("fp32", images.device):
            return embedding, encode_ddim(self.field, images, self.guides(embedding), steps=self.steps)

    def draw(self, embedding: Tensor, latent: Tensor, eta: float = 0.0, seed: int = 0) -> Tensor:
        """Pictures (B, C, H, W) of embeddings and latents; with eta > 0, varied by new noise."""
        with autocast("fp32", latent.device):
            return sample_ddim(
                self.field, latent, self.guides(embedding), steps=self.steps, eta=eta,
                generator=stream(seed, "variations"),
            ).clamp(-1, 1)  # fmt: skip

    def towards(self, embedding: Tensor, text: str, instead_of: str, shares: Tensor) -> Tensor:
        """An embedding (1, size) turned by shares (N,) towards what one text says and the other does not: (N, size)."""
        with torch.no_grad():
            wanted = self.clip.text_features([text])
            if instead_of:
                wanted = wanted - self.clip.text_features([instead_of])
        if not bool(wanted.any()):
            raise ValueError(f"--towards and --instead-of must differ, got {text!r} twice")
        rows = embedding.expand(len(shares), -1)
        return slerp(rows, F.normalize(wanted, dim=1).expand_as(rows), shares)


def vary(run: Any, request: VaryRequest) -> list[str]:
    """Draw variations of a picture, or turn it towards a text."""
    check_memory(request.count + 1, run.shape)
    image = read_same_size(request.picture, run.shape)[None].to(run.device)
    decoder = Decoder(run, request.scale, request.steps)
    embedding, latent = decoder.read(image)
    latents = latent.expand(request.count, *latent.shape[1:])
    if request.towards:
        shares = torch.linspace(0, request.reach, request.count, device=run.device)
        turned = decoder.towards(embedding, request.towards, request.instead_of, shares)
        drawn, said = decoder.draw(turned, latents), f"{request.picture} towards {request.towards!r}"
    else:
        rows = embedding.expand(request.count, -1)
        drawn, said = decoder.draw(rows, latents, request.eta, request.seed), f"variations of {request.picture}"
    return written(request, torch.cat([image, drawn]), said)


def blend(run: Any, request: BlendRequest) -> list[str]:
    """Draw what lies between two pictures, from one to the other."""
    check_memory(request.count + 2, run.shape)
    images = torch.stack([read_same_size(path, run.shape) for path in (request.first, request.second)]).to(run.device)
    decoder, shares = Decoder(run, request.scale, request.steps), torch.linspace(0, 1, request.count, device=run.device)
    embedding, latent = (between(part, shares) for part in decoder.read(images))
    drawn = decoder.draw(embedding, latent)
    said = f"from {request.first} to {request.second}"
    return written(request, torch.cat([images[:1], drawn, images[1:]]), said)


def between(pair: Tensor, shares: Tensor) -> Tensor:
    """From the first to the second of a pair (2, ...), at shares (N,) of the way: (N, ...)."""
    rows = pair[:, None].expand(2, len(shares), *pair.shape[1:])
    return slerp(rows[0], rows[1], shares)


def written(request: EditRequest, images: Tensor, said: str) -> list[str]:
    """Write a sheet of pictures; what there is to say of it."""
    write_whole(request.out, png_of(images, text=said))
    return [f"{said}: {request.out}"]
