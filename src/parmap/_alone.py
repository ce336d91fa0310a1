"""One submitted task on its way to a warm worker while nothing else goes on: not in the books.

`submit(...).result()` in a row is what `_express` is for maps: one message there, one back, and if all
goes well nothing of it is left in the core's books, so nothing is written into them.  But between the
two messages nobody may be at the wheel, and anybody may take it: so a task that is `away` is written
into the books by whoever drives next, before anything else happens.  Only if that is the one who waits
for its result, and the result is the next thing that comes, it never is.  The loop's own thread is not
woken for it (that costs as much as all the rest) before somebody asks for the result in another way,
or all has been still for a while.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from parmap._calls.news import Ended, Report
from parmap._core import events as ev
from parmap._express import MOST_BYTES, PATIENCE
from parmap._hold import Hold
from parmap._wire import frames as fr

if TYPE_CHECKING:
    from parmap._calls.submit import SubmittedCall
    from parmap._driver import Driver
    from parmap._launch.peer import Peer
    from parmap._wire.frames import Frame


def send_alone(driver: Driver, call: SubmittedCall) -> bool:
    """Send the task, if a worker is ready for it and nobody else is served; if not, nothing has
    happened."""
    if not call.is_small(MOST_BYTES):
        return False
    hold = Hold(driver._crew.interrupt)
    hold.begin()
    try:
        if not driver._wheel.take():
            return False
        try:
            return _leave(driver, call)
        finally:
            driver._leave_wheel(call.id)  # whoever wants the result drives, or asks for it
    finally:
        hold.end()


def _leave(driver: Driver, call: SubmittedCall) -> bool:
    if driver._inbox or driver._commands or driver._calls or not driver.is_open:
        return False
    choice = driver._scheduler.send_ahead(None, 1, now=time.monotonic())
    peer = None if choice is None else driver._crew.members.get(choice[0])
    if choice is None or peer is None or peer.backlog or not peer.open:
        return False
    if peer.surroundings is not call.surroundings or not call.begin():
        return False
    away = Away(driver, call, peer, choice[1])
    driver._calls[call.id] = call
    driver.away = call.away = away
    peer.allow(call.cpus)
    frame, done = call.frame(away.chunk)
    if not call.is_alone:
        driver._forget(driver._references.lend(peer, call, frame))
    driver._crew.send(peer, frame)
    if done is not None:
        done()
    return True


class Away:
    """A task that was sent and is not in the books."""

    __slots__ = ("_call", "_driver", "_peer", "chunk")

    def __init__(self, driver: Driver, call: SubmittedCall, peer: Peer, chunk: int) -> None:
        self._driver = driver
        self._call = call
        self._peer = peer
        self.chunk = chunk

    def await_result(self, timeout: float | None) -> None:
        """Settle its future, if nobody drives and the result is the next thing that happens.

        If not, the books have it.  Raises what the handlers of signals raise meanwhile.
        """
        driver = self._driver
        if not driver.alive:
            return
        hold = Hold(driver._crew.interrupt)
        hold.begin()
        try:
            if not driver._wheel.take():
                return
            try:
                # Nobody has driven in between: whoever does writes it into the books.
                if driver.away is self and not driver._inbox:
                    patience = PATIENCE if timeout is None else max(0.0, min(timeout, PATIENCE))
                    self._arrive(patience)
            finally:
                driver._leave_wheel(self._call.id)
        finally:
            hold.end()

    def hand_over(self) -> None:
        """Somebody wants its result, and does not drive for it: the loop's own thread shall."""
        self._driver._wheel.ring()

    def _arrive(self, patience: float) -> None:
        driver, peer = self._driver, self._peer
        frames = peer.read() if driver._crew.only(peer, patience) else []
        if len(frames) == 1 and peer.open and _is_result(frames[0]):
            driver.away = None
            driver._scheduler.came_ahead(1)
            driver._calls.pop(self._call.id, None)
            self._call.close()
            self._call.tell(Report(frames[0], worker=peer.name, pid=peer.pid))
            self._call.tell(Ended())
        else:
            self.write_down(*frames)

    def write_down(self, *frames: Frame) -> None:
        """Into the books; by whoever drives.  `frames`: what has come from its worker."""
        driver = self._driver
        driver.away = None
        driver._tell(ev.SentAhead(self._call.adopt([()]), self._peer.number, self.chunk))
        for frame in frames:
            driver._heard(self._peer, frame)


def _is_result(frame: Frame) -> bool:
    """And nothing else: no failure, no other word, no worker that wants to be replaced."""
    ordinary = fr.FLAG_LAST | fr.FLAG_BLOCK
    return frame.kind == fr.RESULTS and frame.flags | ordinary == ordinary and frame.count == 1
