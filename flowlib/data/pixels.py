"""The pixels of image files, as Pillow reads them: grey or RGB, 8 bits, upright, on white."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from flowlib.data.dataset import DataError

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")  # none that runs a program, whatever a file's name says
_GREY = ("1", "L", "LA", "I", "I;16", "I;16L", "I;16B")
_ALPHA = ("LA", "PA", "RGBA", "RGBa")


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image, of which only the header is read; what goes wrong, here or in the block, is a DataError."""
    try:
        if not path.is_file():
            raise DataError(f"{path} is no file that can be read")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what is repaired here
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as image:
                yield image
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{path} is no image, or one that is damaged at its start") from None
    except Exception as error:  # on a damaged file a decoder raises what it likes
        said = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be read ({said})") from None


def is_grey(image: Image.Image) -> bool:
    """Whether the file is of a grey kind, or of a palette of greys; an RGB file of grey pixels is not."""
    if image.mode == "P":
        palette = image.getpalette("RGB") or []
        return palette[0::3] == palette[1::3] == palette[2::3]
    return image.mode in _GREY


def decode(image: Image.Image, size: int | None = None) -> np.ndarray:
    """The pixels of an open image, uint8: (H, W) if it is grey, else (H, W, 3).

    Args:
        image: from `open_image`.
        size: the side of a square, to which the image is scaled by its shorter side and cut; None for its own size.

    Raises:
        Exception: whatever the decoder makes of a damaged file; `open_image` turns it into a DataError.
    """
    mode = "L" if is_grey(image) else "RGB"
    if size is not None:
        image.draft(None, (2 * size, 2 * size))  # a large JPEG is decoded at a fraction of its size, still above ours
    image = ImageOps.exif_transpose(image)
    if image.mode[0] == "I":
        image = Image.fromarray(_to_8_bits(np.asarray(image)))
    elif image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, expected 8 or 16 bits")
    if image.mode in _ALPHA or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    image = image.convert(mode)
    if size is not None:
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return np.asarray(image)


def stack(arrays: Sequence[np.ndarray], grey: bool) -> Tensor:
    """Arrays of `decode`, of one size, as images (N, 1 or 3, H, W) float32 in [-1, 1]."""
    if not grey:
        arrays = [array if array.ndim == 3 else array[..., None].repeat(3, axis=2) for array in arrays]
    pixels = torch.from_numpy(np.stack(arrays))
    pixels = pixels[:, None] if grey else pixels.permute(0, 3, 1, 2)
    return pixels.float().contiguous().div_(127.5).sub_(1)


def read_picture(path: Path, shape: tuple[int, ...]) -> Tensor:
    """One image file as a network takes it: (C, H, W) float32 in [-1, 1] of `shape`, C = 1 or 3 and H = W.

    It is scaled by its shorter side and cut to its middle; of colours in grey, the mean is taken. What was enlarged by
    repeating pixels, as `flowlib.plotting.png_of` makes it, comes back exactly.

    Raises:
        DataError: for a file that is missing, damaged or no image.
    """
    with open_image(path) as image:
        array = decode(image)
        blocks = _blocks(array, shape[1])
        array = decode(image, shape[1]) if blocks is None else blocks
    x = stack([array], grey=array.ndim == 2)[0]
    return x.mean(0, keepdim=True) if shape[0] == 1 else x.expand(shape[0], -1, -1).clone()


def read_same_size(path: Path, shape: tuple[int, ...]) -> Tensor:
    """A picture as `read_picture` reads it, whose file has that size, or is enlarged from it by repeating pixels.

    Raises:
        DataError: for a file that is missing, damaged or no image.
        ValueError: for one of another size.
    """
    with open_image(path) as image:
        array = decode(image)
    if _blocks(array, shape[1]) is None:
        found = f"{array.shape[1]} x {array.shape[0]}"
        raise ValueError(f"{path} must have {shape[2]} x {shape[1]} pixels, or be these enlarged, got {found}")
    return read_picture(path, shape)


def read_mask(path: Path, picture: Path, shape: tuple[int, ...]) -> Tensor:
    """A mask (1, H, W) of 0 and 1, of the pixels that are bright in an image file of the size of a picture's file.

    Raises:
        DataError: for a file that is missing, damaged or no image.
        ValueError: for a mask of another size, or without a bright pixel.
    """
    with open_image(picture) as image, open_image(path) as other:
        found = [f"{width} x {height}" for width, height in (other.size, image.size)]
    if found[0] != found[1]:
        raise ValueError(f"the mask {path} has {found[0]} pixels, the picture {picture} {found[1]}")
    mask = (read_picture(path, (1, *shape[1:])) > 0).float()
    if not bool(mask.any()):
        raise ValueError(f"the mask {path} has no bright pixel")
    return mask


def _blocks(array: np.ndarray, side: int) -> np.ndarray | None:
    """The image of `side` pixels of which a square one is an enlargement by equal blocks; None for any other."""
    times, rest = divmod(len(array), side)
    if array.shape[0] != array.shape[1] or rest or not times:
        return None
    small = array[::times, ::times]
    same = np.array_equal(small.repeat(times, axis=0).repeat(times, axis=1), array)
    return small if same else None


def _to_8_bits(pixels: np.ndarray) -> np.ndarray:
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError(f"its pixels lie in {pixels.min()} ... {pixels.max()}, expected 8 or 16 bits")
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
