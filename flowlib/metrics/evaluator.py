"""The evaluator: a small digit classifier, shipped with its weights, whose features measure generated images.

The Fréchet Inception Distance compares images by the features of a network trained on ImageNet (Heusel et
al., 2017, arXiv:1706.08500). That network is large, and it was trained on photographs in colour. For 28×28
digits a small classifier of digits is quicker and sees more of what matters. The distances in its features
are comparable with each other, and with nothing computed from another network.

The weights were made by `python benchmarks/train_evaluator.py` from MNIST's training set. They are right on
99.63 % of its test set (9,963 of 10,000; the training never saw it, and nothing was chosen by it).
"""

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from flowlib.checks import check_count, check_tensor
from flowlib.weights import FOLDER, read_weights

IMAGE_SHAPE = (1, 28, 28)
CLASSES = 10
FEATURES = 128


class Evaluator(nn.Module):
    """A convolutional classifier of 28×28 digits: five convolutions and a linear head, 73,000 parameters.

    The last convolution is depthwise over the whole 7×7 map: each feature weighs every position on its own,
    which an average pool would forget. There is no normalisation layer: the batch norms used in training are
    folded into the convolutions, so the output for one image never depends on the others.

    Example:
        >>> from flowlib.metrics import Evaluator
        >>> sum(weight.numel() for weight in Evaluator().parameters())
        73194
    """

    edges: ClassVar[tuple[str, ...]] = ("convs.0", "head")

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(1, 32, 5, stride=2, padding=2),  # (B, 32, 14, 14)
                nn.Conv2d(32, 32, 3, padding=1),  # (B, 32, 14, 14)
                nn.Conv2d(32, 64, 3, stride=2, padding=1),  # (B, 64, 7, 7)
                nn.Conv2d(64, 64, 3, padding=1),  # (B, 64, 7, 7)
                nn.Conv2d(64, FEATURES, 7, groups=64),  # (B, 128, 1, 1)
            ]
        )
        self.head = nn.Linear(FEATURES, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        """The activations before the linear head, all >= 0.

        Args:
            x: images (B, 1, 28, 28) of any floating-point dtype, in [-1, 1].

        Returns:
            (B, 128).

        Raises:
            ValueError: if `x` has another shape or dtype, is empty, or has NaN or infinite entries.
        """
        x = check_images("x", x).to(self.head.weight.dtype)
        for conv in self.convs:
            x = torch.relu(conv(x))
        return x.flatten(1)  # (B, 128)

    def forward(self, x: Tensor) -> Tensor:
        """The logits (B, 10) of images (B, 1, 28, 28) in [-1, 1]; errors as in `features`."""
        logits: Tensor = self.head(self.features(x))
        return logits


def check_images(name: str, images: object) -> Tensor:
    """Return `images` if it is a finite floating-point tensor of shape (B, 1, 28, 28).

    Raises:
        ValueError: naming the argument, what came and what was expected.
    """
    checked = check_tensor(name, images)
    if tuple(checked.shape[1:]) != IMAGE_SHAPE:
        raise ValueError(f"{name} must have shape (batch, 1, 28, 28), got {tuple(checked.shape)}")
    return checked


@torch.no_grad()
def evaluate(evaluator: Evaluator, images: Tensor, *, batch_size: int = 500) -> tuple[Tensor, Tensor]:
    """Features and logits of many images, computed `batch_size` at a time so that memory stays bounded.

    Args:
        evaluator: from `load_evaluator()`.
        images: (N, 1, 28, 28) in [-1, 1], on any device: each batch is moved to the evaluator's device and
            dtype.
        batch_size: images in one call of the network. The results do not depend on it, up to rounding.

    Returns:
        features (N, 128) and logits (N, 10), on the evaluator's device.

    Raises:
        ValueError: for images of another shape or dtype, empty or not finite; for `batch_size` < 1.

    Example:
        >>> import torch
        >>> from flowlib.metrics import evaluate, load_evaluator
        >>> features, logits = evaluate(load_evaluator(), torch.rand(5, 1, 28, 28), batch_size=2)
        >>> features.shape, bool((features >= 0).all()), logits.shape
        (torch.Size([5, 128]), True, torch.Size([5, 10]))
    """
    check_images("images", images)
    check_count("batch_size", batch_size)
    batches = [evaluator.features(batch.to(evaluator.head.weight)) for batch in images.split(batch_size)]
    features = torch.cat(batches)
    return features, evaluator.head(features)


def load_evaluator(folder: Path = FOLDER) -> Evaluator:
    """The trained evaluator, on the CPU, frozen.

    Args:
        folder: where `evaluator.safetensors.z` lies; by default the package's own.

    Raises:
        FileNotFoundError, ValueError: as `flowlib.weights.read_weights`.

    Example:
        >>> import torch
        >>> from flowlib.metrics import load_evaluator
        >>> bar = -torch.ones(1, 1, 28, 28)
        >>> bar[..., 5:23, 13:15] = 1
        >>> load_evaluator()(bar).argmax(1)  # which it reads as a one
        tensor([1])
    """
    evaluator = Evaluator()
    evaluator.load_state_dict(read_weights("evaluator", folder))
    # The convolutions are quicker on the CPU when the channels of a pixel lie side by side in memory.
    evaluator = evaluator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return evaluator.eval().requires_grad_(False)
