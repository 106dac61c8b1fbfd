"""Edges of a picture that is no scene: scikit-image's Canny (1986), moved to the inner side of what they bound."""

import numpy as np
from scipy import ndimage

SIGMA, LOW, HIGH = 0.5, 0.05, 0.1  # of the smoothing, in pixels; thresholds of the gradient, in brightness a pixel
_MARGIN = 3  # pixels beyond the picture, as the detector finds nothing at the border


def inner_edges(image: np.ndarray) -> np.ndarray:
    """Canny's edges of what lies on a picture's paper, on the inner side, as the edges of scenes are: (H, W) bool.

    The paper is the commonest colour, the median; an edge is looked for in the distance from it. Where it was found in
    a pixel that is less than half of the way up, the next one up is taken.

    Args:
        image: (C, H, W) in [0, 1].

    Raises:
        ValueError: for an image of another shape.

    Example:
        >>> import numpy as np
        >>> bar = np.zeros((1, 5, 9))
        >>> bar[:, :, 3:7] = 1.0
        >>> inner_edges(bar)[2].astype(int).tolist()
        [0, 0, 0, 1, 0, 0, 1, 0, 0]
    """
    from skimage.feature import canny  # here, as few commands need it

    if image.ndim != 3:
        raise ValueError(f"image must have shape (C, H, W), got {image.shape}")
    height = np.abs(image - np.median(image, axis=(1, 2), keepdims=True)).max(0)
    # Its gradient is that of Sobel's filters, eight times the brightness a pixel.
    edges = canny(np.pad(height, _MARGIN, mode="edge"), SIGMA, 8 * LOW, 8 * HIGH, mode="nearest")
    edges = edges[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    slopes = [ndimage.sobel(height, axis=axis, mode="nearest") for axis in (0, 1)]
    limits = np.array(height.shape)[:, None, None] - 1
    up, down = (np.clip(np.rint(at), 0, limits).astype(int) for at in _beside(*slopes))
    low = height < (height[tuple(up)] + height[tuple(down)]) / 2
    rows, columns = np.where(low, up, np.indices(height.shape))
    inner = np.zeros_like(edges)
    inner[rows[edges], columns[edges]] = True
    return inner


def _beside(y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places (2, H, W) a pixel further along a gradient, and as far the other way."""
    step = np.stack([y, x]) / np.maximum(np.maximum(np.abs(y), np.abs(x)), 1e-12)
    return np.indices(y.shape) + step, np.indices(y.shape) - step
