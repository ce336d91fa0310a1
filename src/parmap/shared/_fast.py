"""`d[key] = value` and `l.append(value)` once more, with the steps of mutex and log written out.

Each takes a microsecond, and each Python call a tenth of that.  The steps are those of
`IntentMutex.enter` and `leave`, of `Log.append` and of `Replica.put`; whatever is not the everyday
case is left to those: then nothing has been done here.

Between the store to END and the one to `seen` nothing is called, so no signal handler can come in.
"""

from __future__ import annotations

from _weakref import ref
from marshal import dumps

from parmap._memory.intents import IntentMutex
from parmap._memory.log import END, PREFIX
from parmap._memory.semaphores import WAITERS

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from parmap.shared._replica import Replica

PUT = 0  # the first kind of step of both containers: (PUT, place, form)


def make_put(  # noqa: PLR0915 - written out on purpose
    replica: Replica, *, keyed: bool
) -> Callable[[Any, Any], bool]:
    """Return a function that puts a small form in, or returns False and has done nothing.

    `keyed`: under a plain key; else at an index, or at the end of a list, which is -1.
    """
    mutex = replica.mutex
    if not isinstance(mutex, IntentMutex):
        return _never
    lock, acquire, release, unlock = mutex.lock, mutex.acquire, mutex.release, mutex.unlock
    slot, intents, abandoned, header = (
        mutex.own_slot(), mutex.intents, mutex.abandoned, mutex.shared,
    )  # fmt: skip
    # Not the replica itself, which has this function: it shall go with its last user.
    copy, shared, log, local = replica.copy, replica.words, replica.log, replica.local
    large, me = log.large, ref(replica)
    memory, shift, limit = log.window()

    def put(place: Any, form: Any) -> bool:  # noqa: PLR0912 - as above
        nonlocal memory, shift, limit
        if copy.running:
            return False
        step = dumps((PUT, place, form))
        size, done = len(step) + PREFIX, False
        try:
            if lock(False) and not mutex.inside:
                mutex.inside = 1
                seq = mutex.seq = mutex.seq + 1
                intents[slot] = seq
                if not acquire(False):
                    mutex.wait()
                    seq = 0
            else:
                mutex.enter_slowly()
                seq = 0
            end = shared[END]
            if end != copy.seen:
                me().catch_up()  # type: ignore[union-attr]  # who calls this has it
            if end + size > limit:
                memory, shift, limit = log.window()
            if end + size <= limit and not abandoned[0]:
                at = end + shift
                memory[at : at + size] = len(step).to_bytes(PREFIX, "little") + step
                with local:
                    data = copy.data
                    if (
                        end == copy.seen
                        and (keyed or place < len(data))
                        and not (large.weight and _is_large(data, place, keyed))
                    ):
                        done = True
                        shared[END] = end + size
                        if keyed or place >= 0:
                            data[place] = form
                        else:
                            data += (form,)
                        copy.seen = end + size
            if seq and not header[WAITERS]:
                release()
                intents[slot] = -seq
                mutex.inside = 0
                unlock()
            else:  # who has waited looks whether others do
                mutex.leave()
        except BaseException:
            mutex.leave()
            raise
        return done

    return put


def _is_large(data: Any, place: Any, keyed: bool) -> bool:
    """Whether what is at that place is a parcel, which must be let go of."""
    form = data.get(place) if keyed else data[place] if place >= 0 else None
    return type(form) is tuple and len(form) == 5


def _never(place: Any, form: Any) -> bool:
    """The lock of this system is slow anyway."""
    del place, form
    return False
