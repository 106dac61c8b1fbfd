"""How far masks are from the truth, and SAM's loss of them (Kirillov et al. 2023, appendix A)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from flowlib.checks import check_number

FOCAL, DICE = 20.0, 1.0  # the paper's weights


def focal_loss(logits: Tensor, truth: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """-alpha_t (1 - p_t)^gamma log p_t, a mean over each mask (Lin et al. 2017, equation 5).

    p_t is the probability of what is true of a pixel; alpha_t is alpha in the mask, 1 - alpha outside. What is known
    well already counts for little.

    Args:
        logits, truth: (..., H, W); the truth is 0 or 1.

    Returns:
        (...), in nats a pixel.
    """
    sign = 2 * truth - 1
    wrong = torch.sigmoid(-sign * logits)  # 1 - p_t
    weight = alpha * truth + (1 - alpha) * (1 - truth)
    return (weight * wrong**gamma * F.softplus(-sign * logits)).mean((-2, -1))


def dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """1 - 2 sum(p t) / (sum p + sum t) of each mask (after Milletari et al. 2016, whose sums below are of squares).

    It is 0 only for the truth itself. How many pixels lie outside does not matter, where a mean over pixels would make
    a small mask worth nothing. Published code adds 1 above and below; here nothing is added.

    Args:
        logits, truth: (..., H, W); the truth is 0 or 1, and somewhere 1.

    Returns:
        (...), in [0, 1].
    """
    p = logits.sigmoid()
    return 1 - 2 * (p * truth).sum((-2, -1)) / (p.sum((-2, -1)) + truth.sum((-2, -1)))


def iou_of(masks: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union of masks (..., H, W) bool, two empty ones at 1; shapes broadcast."""
    both, either = (masks & truth).sum((-2, -1)), (masks | truth).sum((-2, -1))
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)


def mask_loss(logits: Tensor, iou: Tensor, truth: Tensor, shared: float = 0.0) -> dict[str, Tensor]:
    """20 focal + dice of the best of K masks, and the squared error of the predicted IoU of each.

    Of several masks only the one of the smallest loss is to become better: a prompt that may mean three things gets
    three answers, and not their mean. What is predicted is the IoU of the mask where its logit is above 0.

    Args:
        logits: (B, K, H, W).
        iou: predicted (B, K).
        truth: (B, H, W) bool, nowhere empty.
        shared: the weight in [0, 1] of the mean over all masks, in the place of the smallest loss; 0 in the paper.

    Returns:
        "loss", their sum, and "mask", "iou": means over the batch.

    Raises:
        ValueError: for shapes that do not fit, or an empty mask.
    """
    if logits.ndim != 4 or iou.shape != logits.shape[:2] or truth.shape != (len(logits), *logits.shape[2:]):
        shapes = [tuple(part.shape) for part in (logits, iou, truth)]
        raise ValueError(f"logits, iou and truth must be (B, K, H, W), (B, K) and (B, H, W), got {shapes}")
    if not bool(truth.flatten(1).any(1).all()):
        raise ValueError("truth must not be empty: there is no mask to find")
    logits, iou = logits.float(), iou.float()
    wanted = truth[:, None].expand(logits.shape)
    each = FOCAL * focal_loss(logits, wanted.float()) + DICE * dice_loss(logits, wanted.float())  # (B, K)
    mask = (1 - check_number("shared", shared, 0, 1)) * each.min(1).values.mean() + shared * each.mean()
    quality = (iou - iou_of(logits.detach() > 0, wanted)).square().mean()
    return {"loss": mask + quality, "mask": mask, "iou": quality}
