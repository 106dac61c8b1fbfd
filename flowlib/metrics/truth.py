"""How true captions are: what they say of a scene, read and compared with what is known to be in it."""

from collections.abc import Sequence

from torch import Tensor

from flowlib.data import Dataset
from flowlib.metrics.scenes import compare, shares
from flowlib.text.captions import NAMES, Description, Thing, read_caption


def caption_truth(texts: Sequence[str], objects: Tensor, background: Tensor) -> dict[str, float]:
    """How true captions are of scenes of which everything is known.

    Args:
        texts: a caption for each scene.
        objects: (B, 2, 4) digit, colour, size and place of each object, -1 where there is none.
        background: (B,).

    Returns:
        "parsed", the share of captions that name one or two digits. Of these: "digit", "colour", "size", "place",
        "relation", "background" and "count", how often what is said of that is true, of those that say it; "all", how
        often all that is said is. "complete" is the share of all captions that are true and leave nothing open but the
        place of a second digit, of which the relation speaks.

    Raises:
        ValueError: for columns of different lengths.

    Example:
        >>> import torch
        >>> scene = torch.tensor([[[7, 0, 1, 0], [2, 5, 0, 8]]]), torch.tensor([1])
        >>> caption_truth(["a red seven and a green two"], *scene)
        {'parsed': 1.0, 'digit': 1.0, 'colour': 0.0, 'count': 1.0, 'all': 0.0, 'complete': 0.0}
    """
    if not len(texts) == len(objects) == len(background) or not len(texts):
        raise ValueError(f"texts must be {len(objects)}, one a scene, got {len(texts)}")
    rows, complete = [], 0
    for text, row, paper in zip(texts, objects.tolist(), background.tolist(), strict=True):
        try:
            told = read_caption(text)
        except ValueError:  # it names no digit
            continue
        rows.append(compare([Thing(*thing) for thing in row if thing[0] >= 0], paper, told))
        complete += rows[-1]["all"] and says_all(told)
    return {"parsed": len(rows) / len(texts), **shares(rows), "complete": complete / len(texts)}


def check_scenes(data: Dataset) -> None:
    """A ValueError unless the data are scenes, of which everything is known and there are captions of all kinds."""
    missing = [name for name in ("caption", "short", "objects", "background") if name not in data.spec.columns]
    if missing:
        raise ValueError(f"data must be scenes to be measured by their captions: {data.name!r} has no {missing}")


def says_all(told: Description) -> bool:
    """Whether nothing is left open, but for the place of a second digit, of which the relation speaks."""
    first, *others = told.things
    known = [getattr(first, name) for name in NAMES] + [told.background]
    known += [getattr(thing, name) for thing in others for name in NAMES if name != "place"]
    return None not in known and (told.relation is not None or not others)
