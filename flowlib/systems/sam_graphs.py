"""SAM as two graphs, as it is meant to be used: an image is embedded once, and then each click costs little."""

import json
from typing import Any

import torch
from torch import Tensor, nn

from flowlib.data import Spec
from flowlib.nets.sam import SAM
from flowlib.systems.graphs import Graph
from flowlib.training.order import stream


class _Masks(nn.Module):
    """Of one image's embedding (1, dim, h, w) and B prompts of P points: all masks, the single one first."""

    def __init__(self, sam: SAM) -> None:
        super().__init__()
        self.sam = sam

    def forward(self, embedding: Tensor, points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        single, several = (self.sam.masks(embedding, points, labels, several=many) for many in (False, True))
        return torch.cat([single[0], several[0]], 1), torch.cat([single[1], several[1]], 1)


def sam_graphs(module: Any, spec: Spec) -> list[Graph]:
    """The image encoder, "image": x -> embedding; and prompts with the decoder, "masks", as in `_Masks`."""
    dim, grid = module.prompt_encoder.no_point.numel(), module.prompt_encoder.grid

    def images(batch: int) -> dict[str, Tensor]:
        return {"x": torch.randn(batch, *spec.shape, generator=stream(batch, "images")).clamp(-1, 1)}

    def prompts(batch: int) -> dict[str, Tensor]:
        """As many points as prompts: inside, outside and none of either in turn."""
        draw = stream(batch, "prompts")
        points = torch.rand(batch, batch, 2, generator=draw) * (spec.shape[2] - 1)
        labels = (torch.arange(batch * batch) % 3).reshape(batch, batch) - 1
        return {"embedding": torch.randn(1, dim, *grid, generator=draw), "points": points, "labels": -labels}

    free = {"embedding": {}, "points": {0: "batch", 1: "clicks"}, "labels": {0: "batch", 1: "clicks"}}
    said = {"shape": json.dumps(list(spec.shape))}
    return [
        Graph(module.image_encoder, images, {"x": {0: "batch"}}, ["embedding"], said, "image"),
        Graph(_Masks(module), prompts, free, ["logits", "iou"], said, "masks"),
    ]
