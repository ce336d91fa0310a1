"""What a worker does in a thread because the item that it runs may take long."""

from __future__ import annotations

from _thread import allocate_lock, start_new_thread

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable


class Aside:
    """One call in a thread of its own.  RuntimeError: no thread can be had."""

    __slots__ = ("_done", "_error")

    def __init__(self, call: Callable[[], None]) -> None:
        self._done = allocate_lock()
        self._done.acquire()
        self._error: BaseException | None = None
        start_new_thread(self._run, (call,))

    def _run(self, call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:  # it is raised where somebody waits
            self._error = error
        finally:
            self._done.release()

    def wait(self) -> None:
        """Until it is over; what it raised is raised here."""
        self._done.acquire()
        if self._error is not None:
            raise self._error
