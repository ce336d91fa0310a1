"""What workers say beside their frames, taken in by the thread that drives.

It is noted and passed on, and no user's code runs here.  When too much waits to be delivered, no more
is taken in: workers that say more wait, for their pipe is full.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from parmap._calls.hearsay import Said, hearsay
from parmap._wire import frames as fr

if TYPE_CHECKING:
    from collections.abc import Callable

    from parmap._launch.crew import Crew
    from parmap._wire.frames import Frame

_MAY_FOLLOW = frozenset({fr.RESULTS, fr.NOTICE, fr.INIT_FAILED})


def follows_words(frame: Frame) -> bool:
    """Whether its worker had said something before it sent this, which so comes first."""
    return bool(frame.flags & fr.FLAG_WROTE) and frame.kind in _MAY_FOLLOW


class Overhearing:
    """Owned by the thread that drives a loop."""

    __slots__ = ("_ask_to_deliver", "_crew", "_pass_on", "_pid", "_wake")

    def __init__(
        self,
        crew: Crew,
        pass_on: Callable[[Said], None],
        ask_to_deliver: Callable[[], None],
        wake: Callable[[], None],
    ) -> None:
        """`pass_on` has each utterance delivered; `ask_to_deliver`, whoever waits for workers, all
        that there is; `wake` ends the wait of the loop, from any thread."""
        self._crew = crew
        self._pass_on = pass_on
        self._ask_to_deliver = ask_to_deliver
        self._wake = wake
        self._pid = os.getpid()

    def begin_turn(self) -> None:
        """Listen again, if there was too much and is no longer."""
        if self._crew.is_deaf and not hearsay.is_too_much:
            self._crew.listen(True)

    def take(self) -> None:
        """Pass on all that was said until now."""
        for utterance in self._crew.hear():
            said = Said(utterance)
            hearsay.note(said)
            self._pass_on(said)
        if hearsay.is_too_much and not self._crew.is_deaf:
            self._crew.listen(False)
            hearsay.when_less(self._has_become_less)
            self._ask_to_deliver()

    def _has_become_less(self) -> None:
        if self._pid == os.getpid():  # else a forked child's copy
            self._wake()
