"""How unCLIP paints: a prior draws an embedding for the caption, and the decoder a picture of both."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flowlib.systems.painting import PaintRequest
from flowlib.systems.prior_sampling import PriorRequest, check_clip, reader_of, sample_prior, text_guides
from flowlib.systems.sampling import check_memory
from flowlib.systems.unclip_prior import PRIORS

SHIPPED = {"diffusion": "zoo:unclip-prior", "autoregressive": "zoo:unclip-prior-autoregressive"}
OPTIONS: dict[str, Any] = {"scale": 3.0, "steps": 30, "method": "heun", "prior": "diffusion", "prior_scale": 2.0}


def paint_embedding(run: Any, request: PaintRequest, small: Tensor | None = None) -> Tensor:
    """Pictures of a caption (count, *shape).

    Raises:
        ValueError: for a prior that there is not or that has learned another CLIP's embeddings, or small pictures to
            enlarge.
    """
    if small is not None:
        raise ValueError(f"--upsampler must name one of pictures {tuple(small.shape[1:])}, got {run.folder}")
    check_memory(request.count, run.shape)
    wanted, net, texts = request.options(run.recipe.system.paints), run.module.net, [request.caption] * request.count
    tokens = net.tokenizer(texts)
    if wanted["prior"] == "none" and request.prior_scale is not None:
        raise ValueError("--prior-scale does not go with --prior none")
    prior = prior_of(run, wanted["prior"])
    embedding = embed_texts(prior, run.parts["clip"], texts, run.spec, scale=wanted["prior_scale"], seed=request.seed)
    return run.sample(
        net.guide(tokens, embedding), scale=wanted["scale"], steps=wanted["steps"], method=wanted["method"],
        seed=request.seed,
    ).clamp(-1, 1)  # fmt: skip


def prior_of(run: Any, name: str) -> Any:
    """The prior of that name: a part of the run, or else the zoo's of that kind; or another run; None for "none".

    Raises:
        RunError: if there is none.
        ValueError: if it is no prior, or has learned the embeddings of another CLIP.
    """
    if name == "none":
        return None
    if name in PRIORS and name in run.parts:
        return run.parts[name]
    other = run.beside(SHIPPED.get(name, name)).module
    try:
        reader_of(other)
    except ValueError:
        raise ValueError(f"--prior must name a run of the system unclip-prior, got {name!r}") from None
    return check_clip(f"--prior {name}", other, run.parts["clip"])


def embed_texts(prior: Any, clip: Any, texts: Sequence[str], spec: Any, **options: Any) -> Tensor:
    """Embeddings of pictures for texts (B, dim): drawn by a prior; without one, the texts' own.

    Args:
        prior: a prior's module, or None.
        clip: the CLIP whose embeddings it has learned.
        texts: one for each embedding.
        spec: of the data.
        options: of `PriorRequest`: `scale`, `steps`, `best`, `seed` ...
    """
    if prior is None:
        with torch.no_grad():
            return clip.text_features(texts)
    return sample_prior(prior, PriorRequest(spec=spec, y=text_guides(prior, clip, texts), count=len(texts), **options))
