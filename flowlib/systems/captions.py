"""Captions of a data set that has several kinds of them, in columns: what is learned from, and what a step draws."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from flowlib.data import Data
from flowlib.training import Turn

LEARNED = 4000  # samples whose captions a tokenizer is trained on


def learned_captions(data: Data, columns: Sequence[str]) -> list[str]:
    """The captions in `columns` of the first samples, from which a tokenizer learns."""
    count = LEARNED if data.count is None else min(LEARNED, data.count)
    some = data.batch(torch.arange(count))
    return [text for name in columns for text in some[name]]


def chosen_captions(batch: Mapping[str, Any], columns: Sequence[str], turn: Turn) -> list[str]:
    """A caption for each sample of this process's part of a batch, from a column drawn at random.

    Args:
        batch: of the part.
        columns: to draw from, as likely each.
        turn: the step's, whose generator is drawn from for the whole batch.
    """
    which = torch.randint(len(columns), (len(turn.index),), generator=turn.generator)[turn.part]
    return [batch[columns[kind]][i] for i, kind in enumerate(which.tolist())]
