"""The IDX format of MNIST: two zero bytes, a type, the number of dimensions, their sizes, the numbers."""

import zlib
from hashlib import sha256
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from dbp.errors import DataError

LIMIT = 1 << 30  # bytes; MNIST's largest file has 47 million
HEADER = 4 + 4 * 255  # bytes of the longest header


def read_idx(path: Path, digest: str | None = None) -> Tensor:
    """Reads a file of bytes in IDX format, plain or (by its suffix .gz) compressed, as a uint8 tensor.

    No more is decompressed than the header announces, and nothing at all if that exceeds `LIMIT`.

    Args:
        path: the file; it is only read.
        digest: SHA-256 that the uncompressed file must have.

    Raises:
        DataError: the file cannot be read, is damaged, in another format, of a wrong length or digest.
    """
    try:
        shape, start = _header(_content(path, HEADER))
        if (size := start + prod(shape)) > LIMIT:
            raise ValueError(f"its header says {size:,} bytes, more than the {LIMIT:,} that are read")
        content = _content(path, size + HEADER)
        if len(content) != size:
            found = f"{len(content):,}" if len(content) < size + HEADER else "more"
            raise ValueError(f"expected {size:,} bytes of content, found {found}")
        if digest and (found := sha256(content).hexdigest()) != digest:
            raise ValueError(f"not the official file: expected SHA-256 {digest[:12]}..., found {found[:12]}...")
        return torch.frombuffer(content, dtype=torch.uint8)[start:].reshape(shape)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RuntimeError, zlib.error) as error:  # torch refuses shapes that overflow
        raise DataError(f"{path}: {error}\n  delete the file, and it is downloaded again") from None


def _content(path: Path, limit: int) -> bytearray:
    """At most `limit` bytes of a file's content, decompressed."""
    with path.open("rb") as file:
        if path.suffix != ".gz":
            return bytearray(file.read(min(limit, path.stat().st_size)))
        # A truncated stream yields as much as it has, for the error message.
        return bytearray(zlib.decompressobj(wbits=31).decompress(file.read(), limit))


def _header(content: bytearray) -> tuple[list[int], int]:
    """The shape, and the offset of the numbers."""
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise ValueError(
            f"not in IDX format: expected to start with 00 00 08, found {content[:3].hex(' ') or 'nothing'}"
        )
    start = 4 + 4 * content[3]
    return [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)], start
