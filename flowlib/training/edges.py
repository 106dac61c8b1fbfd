"""Which matrices of a network lie inside it, between two hidden layers, as its modules declare.

A module names those of its parts that do not, its edges: the first layer and the last, embeddings, codebooks, and the
layers that make modulations of time and guide. What else it holds lies inside. A part that declares its own edges need
not be named again, and one that is None counts for nothing:

class Net(nn.Module):
    edges = ("stem", "layers.0", "head")  # modules or parameters

What no module around it declares anything about counts as an edge: AdamW trains any layer well, Muon only inner ones.
"""

import logging
from collections.abc import Iterator
from operator import attrgetter

from torch import nn

logger = logging.getLogger(__name__)


def inner_matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """The matrices and kernels inside a network that are trained, by name; a warning names those nothing is known of.

    Raises:
        ValueError: for a module whose `edges` are not names of its parts.
    """
    declaring = [module for module in model.modules() if getattr(module, "edges", None) is not None]
    known = {p for module in declaring for p in module.parameters()}
    edges = {p for module in declaring for p in _edge_parameters(module)}
    matrices = {name: p for name, p in model.named_parameters() if p.requires_grad and p.ndim >= 2}
    if unknown := [name for name, p in matrices.items() if p not in known]:
        logger.warning(
            "no module declares `edges` around %d matrices, so all count as edges: %s (see flowlib.training.edges)",
            len(unknown),
            ", ".join(unknown[:3]) + (" ..." if unknown[3:] else ""),
        )
    return {name: p for name, p in matrices.items() if p in known and p not in edges}


def _edge_parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    kind = type(module).__name__
    if not isinstance(module.edges, tuple | list):
        raise ValueError(f"edges of {kind} must be a tuple of names, got {module.edges!r}")
    for name in module.edges:
        try:
            part = attrgetter(name)(module)
        except (AttributeError, TypeError):
            part = ...
        if isinstance(part, nn.Module):
            yield from part.parameters()
        elif isinstance(part, nn.Parameter):
            yield part
        elif part is not None:
            raise ValueError(f"edges of {kind} must name its parts, got {name!r}")
