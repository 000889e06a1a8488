"""The options of an object, for its `repr`."""

import inspect
from typing import Any

NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def options_of(component: object) -> dict[str, Any]:
    """The parameters of the constructor that the object holds as attributes of the same names, with their values."""
    names = [name for name, p in inspect.signature(type(component)).parameters.items() if p.kind in NAMED]
    return {name: getattr(component, name) for name in names if hasattr(component, name)}


def described(component: object) -> str:
    """The options as in a call, `lam=1.0, samples=4`: numbers for tensors of one element, submodules left out.

    A module's `repr` shows its submodules by itself. Both are told by their methods, as this room imports no torch.
    """
    shown = {name: _plain(value) for name, value in options_of(component).items() if not hasattr(value, "forward")}
    return ", ".join(f"{name}={value!r}" for name, value in shown.items())


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "numel") and value.numel() == 1 else value
