"""Docstrings of losses and samplers: complete on their own, with an example that runs."""

import doctest
import inspect
import re
from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from flowlib import ddim, edm, empirical, likelihood, losses, samplers, sde
from flowlib.data import canny, rewriting
from flowlib.metrics import agreement, copying, truth
from flowlib.nets import (
    captioner,
    clip,
    control,
    controlled,
    lora,
    mae,
    mask_decoder,
    patterns,
    principal,
    priors,
    prompts,
    sam,
    text_image,
    transformer,
    two_way,
    unclip,
    vit,
)
from flowlib.systems import (
    automatic_masks,
    binding,
    clicks,
    control_painting,
    cut_schedule,
    disco_losses,
    logit_laplace,
    regions,
    token_bound,
    unclip_editing,
    weighted,
)
from flowlib.systems import captioner as captioner_system
from flowlib.systems import mae as mae_system
from flowlib.text import bpe, styles, words


@pytest.mark.parametrize(
    ("module", "lines"),
    [
        (losses, 4),
        (samplers, 4),
        (sde, 4),
        (ddim, 4),
        (likelihood, 2),
        (edm, 4),
        (empirical, 5),
        (bpe, 3),
        (words, 1),
        (transformer, 4),
        (vit, 4),
        (patterns, 1),
        (text_image, 3),
        (logit_laplace, 4),
        (token_bound, 3),
        (clip, 6),
        (lora, 4),
        (weighted, 2),
        (cut_schedule, 2),
        (disco_losses, 2),
        (canny, 4),
        (agreement, 6),
        (copying, 3),
        (control, 5),
        (controlled, 4),
        (control_painting, 1),
        (mae, 4),
        (prompts, 5),
        (two_way, 4),
        (mask_decoder, 3),
        (sam, 8),
        (mae_system, 2),
        (regions, 3),
        (clicks, 2),
        (automatic_masks, 4),
        (principal, 4),
        (priors, 3),
        (unclip, 8),
        (unclip_editing, 3),
        (captioner, 3),
        (captioner_system, 2),
        (binding, 2),
        (truth, 3),
        (rewriting, 1),
        (styles, 1),
    ],
)
def test_the_examples_run(module: ModuleType, lines: int) -> None:
    with torch.random.fork_rng(devices=[]):
        result = doctest.testmod(module)
    assert result.attempted >= lines
    assert result.failed == 0


@pytest.mark.parametrize(
    "function",
    [
        losses.flow_matching_loss,
        losses.score_matching_loss,
        losses.prediction_loss,
        samplers.sample_ode,
        samplers.sample_sde,
        samplers.sample_ddim,
    ],
)
def test_every_argument_is_explained_where_it_is_read(function: Callable[..., object]) -> None:
    text = function.__doc__ or ""
    for section in ("Args:", "Returns:", "Raises:", "Example:"):
        assert section in text
    arguments = text.split("Args:")[1].split("Returns:")[0]
    for name in inspect.signature(function).parameters:
        assert re.search(rf"^        (\w+, )*{name}(, \w+)*: \S", arguments, re.MULTILINE), name
    assert not re.search(r"\bas (there|in `)", text)
