"""Every way in which a handle can get into another process, for handles of any kind.

A test gives a `Near`: the handle, and what the far side does with it; each transport brings one to
the other.  `channel/test_matrix.py` and the tests of shared state run the same list.
"""

from __future__ import annotations

import functools
import multiprocessing
from typing import TYPE_CHECKING, Any, Protocol

from parmap import Channel, Pool, parallel_imap, parallel_map
from support.channel_peers import child, collect
from support.gates import PATIENCE
from support.tasks import identity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Use = Callable[[Any], Any]

METHODS = ["fork", "spawn", "forkserver"]

kept: list[Any] = []  # what this process was given to keep


class Near(Protocol):
    """One handle, on this side."""

    use: Use
    """What the far side does with it: a function that workers import by name."""

    def give(self) -> Any:
        """Return the handle and forget it, so that its copy elsewhere is the only one."""

    def drop(self, handle: Any) -> None:
        """Be done with a handle that has come back to this process."""

    def leave_to_child(self, handle: Any) -> None:
        """A child has inherited it."""


class Road:
    """What a transport may need besides the handle."""

    def __init__(self, pool: Pool, folder: Path) -> None:
        self.pool = pool
        self.folder = folder


# --- what runs on the far side --------------------------------------------------------------------


def apply(use: Use, handle: Any) -> Any:
    return use(handle)


def use_all(uses: list[Use], handles: list[Any]) -> list[Any]:
    return [use(handle) for use, handle in zip(uses, handles, strict=True)]


def use_all_and_write(uses: list[Use], handles: list[Any], path: str) -> None:
    """For transports that return nothing: the answers go into a file."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(repr(use_all(uses, handles)))


def keep(*things: Any) -> None:
    """Keep handles in this process; also an initializer."""
    kept.extend(things)


def use_kept(use: Use) -> Any:
    return use(kept[-1])


def use_all_kept(uses: list[Use]) -> list[Any]:
    return use_all(uses, kept)


def forget() -> None:
    kept.clear()


def relay(use: Use, carrier: Any) -> Any:
    """Take a handle out of a channel and use it."""
    return use(carrier.receive(timeout=PATIENCE))


def relay_all_and_write(uses: list[Use], carrier: Any, path: str) -> None:
    use_all_and_write(uses, carrier.receive(timeout=PATIENCE), path)


# --- each brings the handle to `near.use` in another process, and returns what that returned ------


def argument_to_a_fresh_worker(near: Near, road: Road) -> Any:
    with Pool(1) as pool:
        return parallel_map(near.use, [near.give()], pool=pool)[0]


def argument_to_a_running_worker(near: Near, road: Road) -> Any:
    return parallel_map(near.use, [near.give()], pool=road.pool)[0]


def argument_to_the_shared_pool(near: Near, road: Road) -> Any:
    return parallel_map(near.use, [near.give()], max_workers=1)[0]


def argument_of_submit(near: Near, road: Road) -> Any:
    return road.pool.submit(apply, near.use, handle=near.give()).result(PATIENCE)


def item_of_a_lazy_map(near: Near, road: Road) -> Any:
    (answer,) = parallel_imap(near.use, (near.give() for _ in range(1)), pool=road.pool)
    return answer


def inside_other_data(near: Near, road: Road) -> Any:
    use = near.use
    item: Any = {"deep": [1, (near.give(),)]}
    return parallel_map(lambda x: use(x["deep"][1][0]), [item], pool=road.pool)[0]


def closure(near: Near, road: Road) -> Any:
    use, handle = near.use, near.give()
    return parallel_map(lambda _: use(handle), [0], pool=road.pool)[0]


def partial(near: Near, road: Road) -> Any:
    fn = functools.partial(apply, handle=near.give())
    return parallel_map(fn, [near.use], pool=road.pool)[0]


def closure_in_a_fresh_worker(near: Near, road: Road) -> Any:
    use, handle = near.use, near.give()
    with Pool(1) as pool:
        return parallel_map(lambda _: use(handle), [0], pool=pool)[0]


def result_of_a_task(near: Near, road: Road) -> Any:
    (handle,) = parallel_map(identity, [near.give()], pool=road.pool)
    answer = near.use(handle)
    near.drop(handle)
    return answer


def kept_by_one_task_for_the_next(near: Near, road: Road) -> Any:
    road.pool.submit(keep, near.give()).result(PATIENCE)
    answer = road.pool.submit(use_kept, near.use).result(PATIENCE)
    road.pool.submit(forget).result(PATIENCE)
    return answer


def from_worker_to_worker(near: Near, road: Road) -> Any:
    """Forwarded by a worker to a worker of its own."""
    return parallel_map(forward, [near.use], [near.give()], pool=road.pool)[0]


def forward(use: Use, handle: Any) -> Any:
    with Pool(1) as pool:
        return parallel_map(use, [handle], pool=pool)[0]


def initargs(near: Near, road: Road) -> Any:
    with Pool(1, initializer=keep, initargs=(near.give(),)) as pool:
        return parallel_map(use_kept, [near.use], pool=pool)[0]


def through_a_channel(near: Near, road: Road) -> Any:
    carrier: Channel[Any] = Channel()
    carrier.send(near.give())
    handle = carrier.receive(timeout=PATIENCE)
    carrier.close()
    answer = near.use(handle)
    near.drop(handle)
    return answer


def through_a_channel_inside_data(near: Near, road: Road) -> Any:
    carrier: Channel[Any] = Channel()
    carrier.send(["x", {"handle": near.give()}, b"y" * 200_000])
    handle = carrier.receive(timeout=PATIENCE)[1]["handle"]
    answer = near.use(handle)
    near.drop(handle)
    return answer


def through_a_channel_to_a_worker(near: Near, road: Road) -> Any:
    carrier: Channel[Any] = Channel()
    carrier.send(near.give())
    return road.pool.submit(relay, near.use, carrier).result(PATIENCE)


def through_a_channel_that_travelled_through_a_channel(near: Near, road: Road) -> Any:
    outer: Channel[Any] = Channel()
    inner: Channel[Any] = Channel()
    inner.send(near.give())
    outer.send(inner)
    inner.close()
    del inner
    collect()
    return road.pool.submit(relay, near.use, outer.receive(timeout=PATIENCE)).result(PATIENCE)


def through_a_channel_while_the_receiver_waits(near: Near, road: Road) -> Any:
    carrier: Channel[Any] = Channel()
    future = road.pool.submit(relay, near.use, carrier)
    carrier.send(near.give())
    return future.result(PATIENCE)


def inherited_by_os_fork(near: Near, road: Road) -> Any:
    handle = near.give()
    with child(lambda me: me.say(near.use(handle))) as process:
        near.leave_to_child(handle)
        answer = process.hear()
        process.end_well()
    return answer


TRANSPORTS = [
    argument_to_a_fresh_worker, argument_to_a_running_worker, argument_to_the_shared_pool,
    argument_of_submit, item_of_a_lazy_map, inside_other_data, closure, partial,
    closure_in_a_fresh_worker, result_of_a_task, kept_by_one_task_for_the_next,
    from_worker_to_worker, initargs, through_a_channel, through_a_channel_inside_data,
    through_a_channel_to_a_worker, through_a_channel_that_travelled_through_a_channel,
    through_a_channel_while_the_receiver_waits, inherited_by_os_fork,
]  # fmt: skip


# --- the start methods, of Pool and of plain multiprocessing: several handles at once -------------


def argument_of_a_pool(uses: list[Use], handles: list[Any], path: str, method: str) -> Any:
    with Pool(1, start_method=method) as pool:
        return parallel_map(use_all, [uses], [handles], pool=pool)[0]


def initargs_of_a_pool(uses: list[Use], handles: list[Any], path: str, method: str) -> Any:
    with Pool(1, start_method=method, initializer=keep, initargs=tuple(handles)) as pool:
        handles.clear()
        return parallel_map(use_all_kept, [uses], pool=pool)[0]


def arguments_of_a_process(uses: list[Use], handles: list[Any], path: str, method: str) -> Any:
    """The parent drops its own as soon as `start` has returned."""
    context: Any = multiprocessing.get_context(method)
    process = context.Process(target=use_all_and_write, args=(uses, handles, path))
    process.start()
    handles.clear()
    return written(process, path)


def through_a_channel_to_a_process(
    uses: list[Use], handles: list[Any], path: str, method: str
) -> Any:
    context: Any = multiprocessing.get_context(method)
    carrier: Channel[Any] = Channel()
    process = context.Process(target=relay_all_and_write, args=(uses, carrier, path))
    process.start()
    carrier.send(handles)
    handles.clear()
    return written(process, path)


def written(process: Any, path: str) -> Any:
    """What a process that returns nothing has written."""
    process.join(PATIENCE)
    assert process.exitcode == 0
    process.close()
    with open(path, encoding="utf-8") as file:
        return eval(file.read())


METHOD_TRANSPORTS = [
    argument_of_a_pool, initargs_of_a_pool, arguments_of_a_process, through_a_channel_to_a_process,
]  # fmt: skip
