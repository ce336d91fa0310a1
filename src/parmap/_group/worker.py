"""`Worker`: a process of a group, from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from parmap import options
from parmap._group.outcomes import value_of
from parmap._group.seat import stay_here

if TYPE_CHECKING:
    from parmap._group.loop import GroupLoop
    from parmap._group.seat import Seat

R = TypeVar("R")


class Worker(Generic[R]):
    """A process of a `WorkerGroup`, from outside.  Made by `WorkerGroup.start`.

    Thread-safe; stays in the process that made it (`SerializationError` when pickled).

    Example:
        >>> from parmap import WorkerGroup
        >>> with WorkerGroup() as group:
        ...     worker = group.start(pow, 2, 10, name="power")
        ...     worker.result()
        1024
        >>> worker.exitcode
        0
    """

    _seat: Seat
    _group: GroupLoop

    def __init__(self) -> None:
        raise TypeError("a Worker is made by WorkerGroup.start")

    @property
    def name(self) -> str:
        """The name that `ps`, log records and `multiprocessing.current_process()` show, too."""
        return self._seat.name

    @property
    def pid(self) -> int | None:
        """The id of its process; of the latest one if it was started again.

        Waits until it has been started (milliseconds).  None if it was not: the system refused, or
        the group had come to its end.
        """
        seat = self._seat
        if seat.pid is None:
            self._group.wait(seat, seat.has_begun, None)
        return seat.pid

    @property
    def exitcode(self) -> int | None:
        """None while it lives; else its exit status, negative for the signal that ended it."""
        settled = self._seat.settled
        return None if settled is None else settled.exitcode

    @property
    def sentinel(self) -> int:
        """A descriptor that becomes readable when the worker has ended.

        For `multiprocessing.connection.wait` and selectors.  It is valid while this object lives.
        """
        return self._seat.sentinel()

    def is_alive(self) -> bool:
        """Whether it has not ended yet; one that waits to be started again is alive."""
        return self._seat.settled is None

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has ended, at most `timeout` seconds; whether it has.  Raises nothing.

        Returns when the group has stopped it, too, and so when another worker has failed.  False
        without a `timeout` means that it would never end: inside a block whose group has failed, or
        because it waits for messages of which this process is the only sender left.
        """
        options.check_wait(timeout)
        return self._group.wait(self._seat, self._seat.is_settled, timeout)

    def result(self, timeout: float | None = None) -> R:
        """Wait for its function and return what that returned.

        Raises:
            Exception: whatever the function raised, with the worker's own traceback; in the block
                of its group, and if it was stopped because another one failed, that failure.
            WorkerLostError: its process died first, or you or the group ended it.
            WorkerStartError: its process could not be started.
            TimeoutError: it has not ended within `timeout` seconds; it runs on.
            ChannelError: it would never end, since all workers wait for messages of a channel of
                which this process is the only sender left.
        """
        if not self.join(timeout):
            self._group.raise_reason()
            raise TimeoutError(f"worker {self.name} has not ended within {timeout} seconds")
        self._group.raise_what_stopped(self._seat)
        result: R = value_of(self._seat)
        return result

    def terminate(self) -> None:
        """Ask it to go: SIGTERM, so `finally` blocks run.  Its end is no failure then.

        Does not wait.  A worker that catches SIGTERM lives on: see `kill`.
        """
        self._group.end(self._seat, kill=False)

    def kill(self) -> None:
        """End it at once: SIGKILL.  Its end is no failure then.  Does not wait."""
        self._group.end(self._seat, kill=True)

    def __reduce__(self) -> NoReturn:
        stay_here(self)

    def __del__(self) -> None:
        seat = getattr(self, "_seat", None)
        if seat is not None:
            seat.close()

    def __repr__(self) -> str:
        settled = self._seat.settled
        if settled is None:
            return f"<Worker {self.name}: running, pid {self._seat.pid}>"
        return f"<Worker {self.name}: {settled.end.value}, exit code {settled.exitcode}>"


def new_worker(seat: Seat, group: GroupLoop) -> Worker[Any]:
    """Return the face of a seat."""
    worker: Worker[Any] = Worker.__new__(Worker)
    worker._seat = seat
    worker._group = group
    return worker
