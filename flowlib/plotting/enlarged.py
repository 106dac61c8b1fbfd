"""Images as a file of plain pixels, without axes or margins: what can be opened, edited and read back exactly."""

import io

import numpy as np
from torch import Tensor

from flowlib.checks import check_count, check_tensor

GAP = 8  # pixels of white between pictures


def png_of(images: Tensor, *, columns: int = 10, side: int = 256, text: str = "") -> bytes:
    """Images (N, 1 or 3, H, W) in [-1, 1] as the bytes of one PNG file, each enlarged by repeating its pixels.

    Args:
        images: clipped to their range; side by side, in rows.
        columns: in a row, at most.
        side: pixels that a picture is enlarged to, or the multiple of its own size below it; never less than its own.
        text: kept in the file as its description.

    Raises:
        ValueError: for images of another shape, or none.

    Example:
        >>> import torch
        >>> png_of(torch.zeros(2, 3, 16, 16))[1:4]
        b'PNG'
    """
    from PIL import Image, PngImagePlugin

    check_tensor("images", images)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise ValueError(f"images must have shape (N, 1 or 3, H, W), got {tuple(images.shape)}")
    check_count("columns", columns)
    times = max(1, check_count("side", side) // max(images.shape[2:]))
    pixels = images.detach().cpu().clamp(-1, 1).add(1).mul(127.5).round().byte().expand(-1, 3, -1, -1)
    large = pixels.repeat_interleave(times, 2).repeat_interleave(times, 3).permute(0, 2, 3, 1).numpy()
    height, width = large.shape[1:3]
    across = min(columns, len(large))
    rows = -(-len(large) // across)
    sheet = np.full((rows * (height + GAP) - GAP, across * (width + GAP) - GAP, 3), 255, np.uint8)
    for i, picture in enumerate(large):
        top, left = i // across * (height + GAP), i % across * (width + GAP)
        sheet[top : top + height, left : left + width] = picture
    info = PngImagePlugin.PngInfo()
    if text:
        info.add_itxt("Description", text)
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, format="PNG", pnginfo=info)
    return file.getvalue()
