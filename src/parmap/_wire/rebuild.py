"""What pickles by value call in the process that unpickles them. Their names are in the pickles."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CellType, ModuleType


def fill_cell(cell: CellType, contents: object) -> None:
    cell.cell_contents = contents


def fill_module(module: ModuleType, names: dict[str, Any]) -> None:
    vars(module).update(names)


def fill_attributes(obj: Any, attributes: dict[str, Any]) -> None:
    vars(obj).update(attributes)


def make_lru_cache(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    """Return the function with an empty cache of the same size."""
    return functools.lru_cache(maxsize, typed)(function)


def make_single_dispatch(default: Callable[..., Any]) -> Any:
    """Return a generic function that knows only its default yet."""
    return functools.singledispatch(default)


def fill_single_dispatch(
    function: Any, state: tuple[dict[type, Callable[..., Any]], dict[str, Any]]
) -> None:
    registry, attributes = state
    for kind, implementation in registry.items():
        function.register(kind, implementation)
    for name, value in attributes.items():
        setattr(function, name, value)


def make_single_dispatch_method(dispatcher: Any, function: Any) -> Any:
    method = functools.singledispatchmethod(function)
    method.dispatcher = dispatcher
    return method


def make_cached_property(kind: type) -> Any:
    """Return a cached property without its function, which may refer to the property's class."""
    prop = kind.__new__(kind)
    if not hasattr(functools.cached_property(len), "lock"):
        return prop
    from threading import RLock  # up to 3.11 each has a lock

    prop.lock = RLock()
    return prop


def make_memoryview(data: Any, form: str, shape: Sequence[int]) -> memoryview:
    flat = memoryview(data).cast("B")
    return flat if form == "B" and len(shape) == 1 else flat.cast(form, shape)  # type: ignore[call-overload, no-any-return]
