"""The IDX format of MNIST: two zero bytes, a type, the number of dimensions, their sizes, the numbers."""

import zlib
from hashlib import sha256
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from dbp.data.errors import DataError


def read_idx(path: Path, digest: str | None = None) -> Tensor:
    """Reads a file of bytes in IDX format, plain or (by its suffix .gz) compressed, as a uint8 tensor.

    Args:
        path: the file; it is only read.
        digest: SHA-256 that the uncompressed file must have.

    Raises:
        DataError: the file cannot be read, is damaged, in another format, of a wrong length or digest.
    """
    try:
        content = _content(path)
        shape, start = _header(content)
        if len(content) != start + prod(shape):
            raise ValueError(f"expected {start + prod(shape):,} bytes of content, found {len(content):,}")
        if digest and (found := sha256(content).hexdigest()) != digest:
            raise ValueError(f"not the official file: expected SHA-256 {digest[:12]}..., found {found[:12]}...")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, zlib.error) as error:
        raise DataError(f"{path}: {error}.\nDelete the file, and it is downloaded again.") from None
    return torch.frombuffer(content, dtype=torch.uint8)[start:].reshape(shape)


def _content(path: Path) -> bytearray:
    raw = path.read_bytes()
    # Of a truncated stream this gives what there is, for the message.
    return bytearray(zlib.decompressobj(wbits=31).decompress(raw) if path.suffix == ".gz" else raw)


def _header(content: bytearray) -> tuple[list[int], int]:
    """Returns the shape and where the numbers start."""
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise ValueError(
            f"not in IDX format: expected to start with 00 00 08, found {content[:3].hex(' ') or 'nothing'}"
        )
    start = 4 + 4 * content[3]
    return [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)], start
