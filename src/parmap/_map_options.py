"""The options of the three map functions, as type checkers see them in the overloads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from concurrent.futures import Executor

    from parmap._limits import Retry
    from parmap.observe.progress import Progress

OnErrorRaises = Literal["raise", "group"]


class CallOptions(TypedDict, total=False):
    """The options that do not change the type of the result."""

    max_workers: int | None
    chunksize: int | None
    task_timeout: float | None
    timeout: float | None
    retry: Retry | int | None
    progress: bool | str | Callable[[Progress], object]
    pool: Executor | None
    checkpoint: str | os.PathLike[str] | None
    seed: int | None


class MapOptions(CallOptions, total=False):
    """... and for several iterables."""

    strict: bool


class StreamOptions(MapOptions, total=False):
    """... and for a stream of results."""

    ordered: bool
    buffersize: int | None
