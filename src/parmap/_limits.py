"""`Retry`, and the other limits that a call sets its items, checked at the door."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import SupportsIndex

from parmap._core.retry import ONCE, RetryPolicy
from parmap._words import short_repr
from parmap.options import check_count, check_seconds


def _lost_workers() -> tuple[type[BaseException], ...]:
    from parmap.errors import WorkerLostError  # when it is asked for: its import is slow

    return (WorkerLostError,)


@dataclass(frozen=True, slots=True)
class Retry:
    """Which failures of an item are tried again, how often, and after how long.

    An item is retried when it fails with an instance of one of the classes in `on`, and with nothing
    else: its own exceptions, `WorkerLostError` when it has cost its worker, `TaskTimeoutError` when
    it ran too long.  It rests `first_delay` seconds before its second run, `backoff` times as long
    before each further one, at most `max_delay`; resting occupies no worker.

    Args:
        attempts: runs in all, the first one included.
        on: a class of exceptions, or several.
        first_delay, backoff, max_delay: seconds, a factor from 1 on, seconds.

    Raises:
        TypeError, ValueError: a field is not what it must be.

    Example:
        >>> from parmap import Retry, parallel_map
        >>> Retry(attempts=5, on=(OSError,), first_delay=0.5).attempts
        5
        >>> parallel_map(abs, [-1, 2], retry=Retry(on=OSError))
        [1, 2]
    """

    attempts: int = 3
    on: tuple[type[BaseException], ...] | type[BaseException] = field(default_factory=_lost_workers)
    first_delay: float = 0.0
    backoff: float = 2.0
    max_delay: float = 30.0

    def __post_init__(self) -> None:
        check_count("attempts", self.attempts, least=1)
        several = isinstance(self.on, Iterable) and not isinstance(self.on, str)
        classes: tuple[object, ...] = tuple(self.on) if several else (self.on,)  # type: ignore[arg-type]
        for cls in classes:
            if not (isinstance(cls, type) and issubclass(cls, BaseException)):
                raise TypeError(f"on must be classes of exceptions, not {short_repr(cls)}")
        object.__setattr__(self, "on", classes)
        check_seconds("first_delay", self.first_delay)
        check_seconds("max_delay", self.max_delay)
        if check_seconds("backoff", self.backoff, unit="") < 1:
            raise ValueError(f"backoff must be a factor from 1 on, not {self.backoff}")

    @property
    def reasons(self) -> tuple[type[BaseException], ...]:
        """The classes in `on`, always as a tuple."""
        return self.on if isinstance(self.on, tuple) else (self.on,)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call sets its items: seconds for one run, further runs, and a seed."""

    task_timeout: float | None = None
    retry: Retry | None = None
    seed: int | None = None

    def policy(self) -> RetryPolicy:
        """The same, as the core takes it."""
        from parmap.errors import TaskTimeoutError, WorkerLostError

        retry = self.retry
        if retry is None:
            return ONCE
        return RetryPolicy(
            retry.attempts, retry.first_delay, retry.backoff, retry.max_delay,
            lost=issubclass(WorkerLostError, retry.reasons),
            late=issubclass(TaskTimeoutError, retry.reasons),
        )  # fmt: skip

    def over(self, default: Limits) -> Limits:
        """These, and what they leave open from the others."""
        timeout = default.task_timeout if self.task_timeout is None else self.task_timeout
        return Limits(timeout, self.retry or default.retry, self.seed)


NO_LIMITS = Limits()


def check_limits(task_timeout: object, retry: object, seed: object = None) -> Limits:
    """The options of a call that hold for each item by itself."""
    return Limits(
        check_timeout("task_timeout", task_timeout, least=1e-6),
        check_retry(retry),
        check_seed(seed),
    )


def check_seed(value: object) -> int | None:
    """None, or an int of any size and sign."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(
            f"seed must be an int or None, not {type(value).__name__}: for a generator of your own,"
            " draw an int from it"
        )
    return value.__index__()  # takes NumPy's integers, too


def check_timeout(name: str, value: object, *, least: float = 0.0) -> float | None:
    """Seconds, or None for as long as it takes."""
    if value is None:
        return None
    seconds = check_seconds(name, value)
    if seconds < least:
        raise ValueError(f"{name} must be more than 0 seconds, or None for no limit; not {value}")
    return seconds


def check_retry(value: object) -> Retry | None:
    """None, a number of runs in all, or a `Retry`."""
    if value is None or isinstance(value, Retry):
        return value
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(
            f"retry must be a parmap.Retry, a number of attempts, or None; not {type(value).__name__}"
        )
    return Retry(attempts=check_count("retry", value, least=1))
