"""What became of the workers of a group, as values and failures for their owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from parmap._calls.outcomes import add_note
from parmap._calls.run import groupable
from parmap._core.supervision import FAILURES, End
from parmap._wire.payload import ERROR, unpack
from parmap.errors import (
    SerializationError,
    TaskErrorGroup,
    TaskFailure,
    WorkerLostError,
    attach_failure,
    death_in_words,
    start_refused,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parmap._calls.news import Report
    from parmap._core.supervision import Settle
    from parmap._group.loop import GroupLoop
    from parmap._group.seat import Seat


def value_of(seat: Seat) -> Any:
    """What the worker's function returned; raises if it did not."""
    settled = seat.settled
    assert settled is not None
    if settled.end is End.RETURNED:
        return outcome_of(seat, _report(settled))
    if settled.end in FAILURES:
        _raise_as_it_came(seat, failure_in(seat).error)
    with seat.decoding:
        if seat.stopped is None:
            seat.stopped = _stopped(seat, settled)
    raise seat.stopped.with_traceback(None)


def outcome_of(seat: Seat, report: Report) -> Any:
    """The one value of a report; raises what was sent instead of it, or what decoding it raises.

    Decoded once, and then kept: several threads may ask for it.
    """
    with seat.decoding:
        kept = seat.decoded.get(id(report))
        if kept is None:
            kept = seat.decoded[id(report)] = (report, *_decode(seat, report))
    _, value, error = kept
    if error is not None:
        _raise_as_it_came(seat, error)
    return value


def failure_in(seat: Seat) -> TaskFailure:
    """How the worker failed: the error is one and the same object each time."""
    with seat.decoding:
        if seat.failure is None:
            seat.failure = _failure(seat)
        return seat.failure


def failures_of(loop: GroupLoop, seats: Sequence[Seat]) -> list[TaskFailure]:
    """The failures, the one that was seen first in front."""
    by_number = {seat.number: seat for seat in seats}
    return [failure_in(by_number[settled.member]) for settled in loop.failures]


def results_of(seats: Sequence[Seat]) -> list[Any]:
    """What `on_error="return"` would give: values, and failures in their place."""
    results: list[Any] = []
    for index, seat in enumerate(seats):
        try:
            results.append(value_of(seat))
        except Exception as error:  # it stands in the list, for the caller to see
            results.append(TaskFailure(index, error))
    return results


def raise_first(failures: list[TaskFailure]) -> NoReturn:
    """Raise the failure that was seen first; it knows of the others."""
    first, *others = failures
    attach_failure(
        first.error, TaskFailure(first.index, first.error, first.attempts, tuple(others))
    )
    raise first.error


def raise_group(name: str, failures: list[TaskFailure], body: Exception | None) -> NoReturn:
    """Raise every failure as one group, the error of the `with` block in front."""
    errors = [groupable(failure) for failure in failures]
    count = f"{len(failures)} of its workers failed" if failures else "its block raised"
    if body is not None:
        errors.insert(0, body)
    raise TaskErrorGroup(f"{name}: {count}", errors) from None  # the body's error is in it


def own_error(
    body: BaseException | None, failures: list[TaskFailure], seats: Sequence[Seat]
) -> BaseException | None:
    """The error of the `with` block, unless it only passed on what it had heard of its workers.

    That is a failure itself, or the news that a worker was stopped because of one.
    """
    heard: list[BaseException | None] = [failure.error for failure in failures]
    if failures:
        heard += [seat.stopped for seat in seats if seat.was_stopped]
    return None if _is_among(body, heard) else body


def _is_among(error: BaseException | None, heard: list[BaseException | None]) -> bool:
    """Whether it is one of them, or a group of them, as an inner block raises it."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_among(each, heard) for each in error.exceptions)
    return any(error is each for each in heard)


def _failure(seat: Seat) -> TaskFailure:
    settled = seat.settled
    assert settled is not None
    error: BaseException
    match settled.end:
        case End.RAISED:
            _, raised = _decode(seat, _report(settled))
            assert raised is not None
            error = raised
        case End.NOT_STARTED:
            error = start_refused(f"worker {seat.name} could not be started: {settled.payload}")
        case _:
            dead = seat.dead
            oom_kills = None if dead is None else dead.oom_kills
            words = death_in_words(settled.exitcode, oom_kills=oom_kills)
            error = WorkerLostError(
                f"worker {seat.name} {words}; its function had not returned",
                index=seat.number - 1,
                exitcode=settled.exitcode,
                attempts=settled.attempts,
                stack=None if dead is None else dead.stack,
                peak_rss=None if dead is None else dead.peak_rss,
                oom_kills=oom_kills,
            )
    add_note(error, f"parmap: worker {seat.name} (pid {seat.pid}), attempt {settled.attempts}")
    failure = TaskFailure(seat.number - 1, error, settled.attempts)
    attach_failure(error, failure)
    return failure


def _stopped(seat: Seat, settled: Settle) -> WorkerLostError:
    how = "was stopped with its group" if settled.end is End.STOPPED else "was ended by its owner"
    return WorkerLostError(
        f"worker {seat.name} {how}, before its function returned",
        index=seat.number - 1, exitcode=settled.exitcode, attempts=settled.attempts,
    )  # fmt: skip


def _raise_as_it_came(seat: Seat, error: BaseException) -> NoReturn:
    """Raise an error that may be asked for again: each time on top of the worker's own frames."""
    _, frames = seat.frames.setdefault(id(error), (error, error.__traceback__))
    raise error.with_traceback(frames)


def _report(settled: Settle) -> Report:
    report: Report = settled.payload  # type: ignore[assignment]  # opaque to the core; ours
    return report


def _decode(seat: Seat, report: Report) -> tuple[Any, BaseException | None]:
    (item,) = unpack(report.segments, report.take_fds(), report.block, seat.codec)
    try:
        value = item.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # __setstate__ may raise anything
        refusal = SerializationError(
            f"what worker {seat.name} sent could not be unpickled: {type(error).__name__}",
            direction="to caller",
            path="result",
        )
        refusal.__cause__ = error
        return None, refusal
    return (None, value) if item.kind == ERROR else (value, None)
