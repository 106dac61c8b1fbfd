"""How a model of tokens paints: as many pictures as it is told to draw, and of these the ones that CLIP prefers."""

from typing import Any

from torch import Tensor

from flowlib.systems.clip import clip_beside
from flowlib.systems.painting import PaintRequest
from flowlib.systems.reranking import rank
from flowlib.systems.sampling import check_memory

OPTIONS: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "candidates": None, "clip": ""}


def paint_tokens(run: Any, request: PaintRequest, small: Tensor | None = None) -> Tensor:
    """Pictures of a caption (count, *shape): those of all candidates that CLIP finds nearest to it.

    Raises:
        ValueError: for fewer candidates than pictures, nobody who could choose, or small pictures to enlarge.
    """
    if small is not None:
        raise ValueError(f"--upsampler must name one of pictures {tuple(small.shape[1:])}, got {run.folder}")
    count, wanted = request.count, request.options(run.recipe.system.paints)
    each = count if wanted["candidates"] is None else wanted["candidates"]
    if each < count:
        raise ValueError(f"candidates must be at least {count}, as many as pictures are wanted, got {each}")
    if request.clip is not None and each == count:
        raise ValueError("--clip chooses among more --candidates than pictures are wanted: say how many")
    check_memory(each, run.shape)
    y = run.module.read([request.caption] * each)
    images = run.sample(y, temperature=wanted["temperature"], top_k=wanted["top_k"], seed=request.seed).clamp(-1, 1)
    if each == count:
        return images
    clip = clip_beside(run, wanted["clip"]) if wanted["clip"] else run.parts.get("clip")
    if clip is None:
        raise ValueError("--clip must name who chooses among candidates, such as vit: the run has no CLIP of its own")
    return rank(clip, images[None], [request.caption.lower()], count)[0]
