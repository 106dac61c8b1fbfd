"""Measures of generated images: do they look real, do they cover what is real, are they what was asked for?

Each measure takes features or logits of the evaluator, or points, so that each can be tested where its value
is known; `evaluate_images` computes all those of images. Those that compare two sets live in `features` and
`distances`.
"""

import math

from torch import Tensor

from flowlib.checks import check_labels
from flowlib.metrics.distances import check_points
from flowlib.metrics.evaluator import FEATURES, check_images, evaluate, load_evaluator
from flowlib.metrics.features import frechet_distance, precision_recall


def label_accuracy(logits: Tensor, labels: Tensor) -> float:
    """The share of samples whose largest logit is that of the label that was asked for.

    Args:
        logits: (N, K), of the evaluator on the generated images.
        labels: (N,) integers in 0 ... K - 1; the null guide asks for nothing and is refused.

    Raises:
        ValueError: for logits or labels of another shape or dtype, empty, not finite or out of range.

    Example:
        >>> import torch
        >>> from flowlib.metrics import label_accuracy
        >>> label_accuracy(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0]))
        0.5
    """
    classes = check_points("logits", logits).shape[1]
    check_labels("labels", labels, len(logits), classes, logits.device)
    if int(labels.max()) == classes:
        raise ValueError(f"labels must lie in 0 ... {classes - 1}, got {classes}, the null guide")
    return float((logits.argmax(dim=1) == labels).double().mean())


def inception_score(logits: Tensor) -> float:
    """`exp(E_x KL(p(y|x) ‖ p(y)))`: high if each image is clearly of one class and all classes appear.

    One score over all samples, not the mean over ten splits.

    Args:
        logits: (N, K).

    Returns:
        A number in [1, K]: 1 if all images give the same prediction, K if all classes appear equally, each
        with certainty.

    Raises:
        ValueError: for logits of another shape or dtype, empty or not finite.

    Source: Salimans et al., "Improved techniques for training GANs" (2016, arXiv:1606.03498), section 4.

    Example:
        >>> import torch
        >>> from flowlib.metrics import inception_score
        >>> round(inception_score(100 * torch.eye(10)), 3)  # ten sure images, one of each class
        10.0
    """
    log_p = check_points("logits", logits).log_softmax(dim=1)  # (N, K)
    log_marginal = log_p.logsumexp(dim=0) - math.log(len(log_p))  # (K,)
    divergence = (log_p.exp() * (log_p - log_marginal)).sum(dim=1)  # (N,)
    return float(divergence.mean().exp())


def evaluate_images(
    images: Tensor, labels: Tensor | None, real_images: Tensor, *, k: int = 3, batch_size: int = 500
) -> dict[str, float]:
    """All measures of generated digits, on the features of the shipped evaluator.

    Images are clamped to [-1, 1] first: what is judged is the picture one would see.

    Args:
        images: generated (N, 1, 28, 28) in [-1, 1], N > 128.
        labels: (N,), the digit each image was asked to be, 0 ... 9, where the images are; None for images
            made without labels.
        real_images: (M, 1, 28, 28) in [-1, 1], M > 128. Take N = M, and images not used in
            training the model.
        k: the neighbour of `precision_recall`.
        batch_size: images in one call of the evaluator; the results do not depend on it, up to rounding.

    Returns:
        {"accuracy", "frechet", "precision", "recall", "inception"}, without "accuracy" if there are no
        labels.

    Raises:
        ValueError: for images or labels of another shape or dtype, not finite or out of range; for too few
            images; for k or `batch_size` < 1; if the evaluator's weights are damaged.

    Example:
        >>> import torch
        >>> from flowlib.metrics import evaluate_images
        >>> x = 2 * torch.rand(200, 1, 28, 28) - 1
        >>> scores = evaluate_images(x, None, x)  # of images with themselves
        >>> sorted(scores), scores["frechet"] < 1e-3, scores["precision"], scores["recall"]
        (['frechet', 'inception', 'precision', 'recall'], True, 1.0, 1.0)
    """
    for name, batch in (("images", images), ("real_images", real_images)):
        if len(check_images(name, batch)) <= FEATURES:
            raise ValueError(f"{name} has too few samples: {len(batch)}, at least {FEATURES + 1} are needed")
    if float(real_images.abs().max()) > 1:
        low, high = float(real_images.min()), float(real_images.max())
        raise ValueError(f"real_images must lie in [-1, 1], got {low:g} ... {high:g}")
    evaluator = load_evaluator().to(images.device)
    features, logits = evaluate(evaluator, images.clamp(-1, 1), batch_size=batch_size)
    scores = {} if labels is None else {"accuracy": label_accuracy(logits, labels)}
    real_features, _ = evaluate(evaluator, real_images, batch_size=batch_size)
    scores["frechet"] = frechet_distance(features, real_features)
    scores["precision"], scores["recall"] = precision_recall(real_features, features, k)
    scores["inception"] = inception_score(logits)
    return scores
