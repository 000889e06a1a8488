"""A bounded memory of solutions."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor


class Cache:
    """The `size` values that were used last; safe to use from several threads, and empty when it is copied.

    Args:
        size: how many values are kept.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._values: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Tensor | None:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Hashable, value: Tensor) -> None:
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self.size:
                self._values.popitem(last=False)

    def __len__(self) -> int:
        return len(self._values)

    def __reduce__(self) -> tuple[Any, ...]:
        return Cache, (self.size,)


def fingerprint(*values: Any) -> str:
    """Equal for equal values: tensors by dtype, shape and bytes, all else by what joblib pickles."""
    import joblib

    return joblib.hash([_content(value) if isinstance(value, Tensor) else value for value in values])


def _content(value: Tensor) -> tuple[str, tuple[int, ...], bytes]:
    flat = value.detach().cpu().resolve_neg().resolve_conj().reshape(-1)
    return str(value.dtype), tuple(value.shape), flat.view(torch.uint8).numpy().tobytes()
