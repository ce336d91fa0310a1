"""What pickles by value call in the process that unpickles them. Their names are in the pickles."""

from __future__ import annotations

import functools

TYPE_CHECKING = False  # see pickling
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CellType, CodeType, ModuleType
    from typing import Any


def fill_cell(cell: CellType, state: tuple[object]) -> None:
    (cell.cell_contents,) = state


def fill_module(module: ModuleType, names: dict[str, Any]) -> None:
    vars(module).update(names)


def fill_attributes(obj: Any, attributes: dict[str, Any]) -> None:
    vars(obj).update(attributes)


def make_code(maker: Callable[..., CodeType], args: tuple[object, ...], file: str) -> CodeType:
    return maker(*args).replace(co_filename=file)


def make_class(
    meta: type,
    maker: Any,
    name: str,
    bases: tuple[type, ...],
    names: dict[str, Any],
    *hooked: type,
) -> type:
    """Return a class without its attributes. `maker` is `meta`'s nearest importable relative.

    `hooked` are bases whose ``__init_subclass__`` must not run: the original class has heard it.
    """
    hooks = [vars(base).get("__init_subclass__", _silence) for base in hooked]
    for base in hooked:
        base.__init_subclass__ = _silence  # type: ignore[assignment]
    try:
        if maker is meta:
            return maker(name, bases, names)  # type: ignore[no-any-return]
        return maker.__new__(meta, name, bases, names)  # type: ignore[no-any-return]
    finally:
        for base, hook in zip(hooked, hooks, strict=True):
            base.__init_subclass__ = hook  # type: ignore[method-assign]


@classmethod  # type: ignore[misc]
def _silence(_cls: type, **_options: object) -> None:
    pass


def fill_enum(
    cls: Any, state: tuple[Callable[..., object], Any, dict[str, dict[str, Any]]]
) -> None:
    """Give an Enum its attributes, and its members theirs (an ``__init__`` of theirs set them)."""
    setter, attributes, members = state
    setter(cls, attributes)
    for name, extras in members.items():
        vars(cls[name]).update(extras)


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
    prop: Any = object.__new__(kind)
    functools.cached_property.__init__(prop, len)  # up to 3.11 each has a lock, made here
    return prop


def make_memoryview(data: Any, form: str, shape: Sequence[int]) -> memoryview:
    flat = memoryview(data).cast("B")
    return flat if form == "B" and len(shape) == 1 else flat.cast(form, shape)  # type: ignore[call-overload]
