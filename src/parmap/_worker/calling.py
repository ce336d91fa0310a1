"""What is called for an item of a chunk, as the item came."""

from __future__ import annotations

from parmap._wire import frames as fr
from parmap._wire.payload import ERROR
from parmap._worker.hygiene import Terminated

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from parmap._wire.payload import Item


def brings_function(flags: int) -> bool:
    """Whether a chunk is a task whose function comes in it, and not its arguments."""
    return flags & (fr.FLAG_ALONE | fr.FLAG_STAR) == fr.FLAG_ALONE


def caller_of(fn: Callable[..., Any], flags: int) -> tuple[Callable[[Any], Any], int]:
    """What calls a function for an item as it came, and how many of our own frames that makes."""
    ours = 1
    if brings_function(flags):
        return lambda nothing: fn(), ours + 1
    block, star = flags & fr.FLAG_BLOCK, flags & fr.FLAG_STAR
    if block and star:
        return lambda arguments: fn(*arguments), ours + 1
    if block:
        return fn, ours
    if star:
        return lambda item: fn(*load_item(item)), ours + 1
    return lambda item: fn(load_item(item)), ours + 1


def load_item(item: Item) -> Any:
    """The argument of one item.  It may have failed to be pickled by the caller, or fail here."""
    try:
        value = item.load()
    except Terminated:
        raise
    except BaseException as error:
        from parmap.errors import SerializationError

        raise SerializationError(
            f"an argument could not be unpickled: {type(error).__name__}: {error}",
            direction="to worker",
            path="args",
        ) from error
    if item.kind == ERROR:
        raise value
    return value
