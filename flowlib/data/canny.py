"""Canny's edge detector (Canny 1986), of scipy's filters, and edges on the inner side of what they bound.

OpenCV and scikit-image have the detector too, but bring many megabytes for this one function.
"""

import numpy as np
from scipy import ndimage

from flowlib.checks import check_number


def canny(image: np.ndarray, sigma: float = 0.5, low: float = 0.05, high: float = 0.1) -> np.ndarray:
    """The edges of an image (C, H, W) in [0, 1]: (H, W) bool.

    Smoothed; the gradient by Sobel's filters, of the channel in which it is largest; pixels where it is largest along
    its own direction, between the neighbours on both sides; of these the ones above `high`, and those above `low` that
    are linked to them.

    Args:
        image: one channel or several.
        sigma: of the Gaussian that smooths, in pixels; 0 for none.
        low, high: thresholds of the gradient, in brightness a pixel.

    Raises:
        ValueError: for an image of another shape, or thresholds that are not 0 < low <= high.

    Example:
        >>> import numpy as np
        >>> step = np.zeros((1, 5, 6))
        >>> step[:, :, 3:] = 1.0
        >>> canny(step)[2].astype(int).tolist()
        [0, 0, 1, 1, 0, 0]
    """
    if image.ndim != 3:
        raise ValueError(f"image must have shape (C, H, W), got {image.shape}")
    check_number("sigma", sigma, 0)
    check_number("low", low, 0, check_number("high", high), low_open=True)
    smooth = np.stack([ndimage.gaussian_filter(channel, sigma, mode="nearest") for channel in image.astype(float)])
    down, right = (
        np.stack([ndimage.sobel(channel, axis=axis, mode="nearest") / 8 for channel in smooth]) for axis in (0, 1)
    )
    channel = np.hypot(down, right).argmax(0)[None]
    y, x = (np.take_along_axis(part, channel, 0)[0] for part in (down, right))
    size = np.hypot(y, x)
    ahead, behind = (ndimage.map_coordinates(size, at, order=1, mode="nearest") for at in _beside(y, x))
    thin = (size >= ahead - 1e-9) & (size >= behind - 1e-9) & (size > low)
    parts, _ = ndimage.label(thin, structure=np.ones((3, 3)))
    return thin & np.isin(parts, parts[thin & (size > high)])


def inner_edges(image: np.ndarray) -> np.ndarray:
    """Canny's edges of what lies on a picture's paper, on the inner side, as the edges of scenes are: (H, W) bool.

    The paper is the commonest colour, the median; an edge is looked for in the distance from it. Where it was found in
    a pixel that is less than half of the way up, the next one up is taken.

    Args:
        image: (C, H, W) in [0, 1].
    """
    height = np.abs(image - np.median(image, axis=(1, 2), keepdims=True)).max(0)
    edges = canny(height[None])
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
