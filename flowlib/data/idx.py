"""The IDX format of the MNIST files: a header that gives type and sizes, then the bytes, last index fastest.

Source: Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten digits", section "File formats".
"""

import gzip
import math
import struct
import zlib

import torch
from torch import Tensor

from flowlib.data.dataset import DataError

_GZIP_MAGIC = b"\x1f\x8b"
_UNSIGNED_BYTE = 0x08


def unpack(content: bytes, source: str) -> bytes:
    """Return `content` decompressed if it is gzip, as it is if not: its first bytes tell, not a file's name.

    Args:
        content: the bytes.
        source: where they come from, for the error.

    Raises:
        DataError: if the gzip stream ends early or is damaged.
    """
    if not content.startswith(_GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except EOFError:
        raise DataError(f"{source} is truncated: its gzip stream ends after {len(content):,} bytes") from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{source} is damaged: its gzip stream does not decompress ({error})") from None


def parse(content: bytes, source: str) -> Tensor:
    """Return the uint8 tensor that an IDX file of unsigned bytes holds, in the shape that its header gives.

    Args:
        content: the unpacked bytes.
        source: where they come from, for the error.

    Raises:
        DataError: if the magic number, the sizes or the length are not those of such a file.
    """
    if len(content) < 4 or content[:2] != b"\0\0":
        raise DataError(f"{source} is no IDX file: {len(content):,} bytes that start with {content[:4]!r}")
    kind, dimensions = content[2], content[3]
    if kind != _UNSIGNED_BYTE or dimensions == 0:
        raise DataError(
            f"{source} has an IDX header of type 0x{kind:02x} and {dimensions} dimensions, "
            "expected unsigned bytes (0x08) and at least one dimension"
        )
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise DataError(f"{source} ends after {len(content)} bytes, inside its IDX header of {start}")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    size, found = math.prod(shape), len(content) - start
    if found != size or size == 0:
        sizes = " x ".join(map(str, shape))
        raise DataError(f"{source} has an IDX header that announces {sizes} entries, but {found:,} bytes follow")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)[start:].reshape(shape)
