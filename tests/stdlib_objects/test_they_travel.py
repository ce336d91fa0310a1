"""What `multiprocessing` shares, and sockets, arrive in workers that run already, and work there."""

from __future__ import annotations

import functools
import multiprocessing
from typing import TYPE_CHECKING, Any

import pytest

from parmap import Channel, Pool, WorkerGroup, parallel_map, run_workers
from support.gates import PATIENCE
from support.stdlib_kinds import EXPECTED, everything, look_at_each, use_each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

METHODS = (None, "spawn", "forkserver", "fork")
given: dict[str, Any] = {}


@pytest.fixture(params=METHODS, ids=str, scope="module")
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with Pool(1, start_method=request.param) as made:
        assert made.submit(len, "running").result() == 7
        yield made


def _direct(pool: Pool, objects: dict[str, Any]) -> None:
    for name, obj in objects.items():
        pool.submit(_use_one, name, obj).result()


def _use_one(name: str, obj: Any) -> None:
    use_each({name: obj})


def _nested(pool: Pool, objects: dict[str, Any]) -> None:
    pool.submit(lambda outer: use_each(outer[0]["inner"]), [{"inner": objects}]).result()


def _in_a_closure(pool: Pool, objects: dict[str, Any]) -> None:
    parallel_map(lambda name: use_each({name: objects[name]}), list(objects), pool=pool)


def _in_a_partial(pool: Pool, objects: dict[str, Any]) -> None:
    parallel_map(functools.partial(_use_named, objects), list(objects), pool=pool)


def _use_named(objects: dict[str, Any], name: str) -> None:
    use_each({name: objects[name]})


def _as_items(pool: Pool, objects: dict[str, Any]) -> None:
    parallel_map(_use_one, list(objects), list(objects.values()), pool=pool)


def _as_a_default(pool: Pool, objects: dict[str, Any]) -> None:
    def use(constant: dict[str, Any] = objects) -> None:
        use_each(constant)

    pool.submit(use).result()


def _through_a_channel(pool: Pool, objects: dict[str, Any]) -> None:
    channel = Channel[Any]()
    done = pool.submit(_receive_each, channel, len(objects))
    for item in objects.items():
        channel.send(item, timeout=PATIENCE)
    done.result()


def _receive_each(channel: Channel[Any], count: int) -> None:
    for _ in range(count):
        _use_one(*channel.receive(timeout=PATIENCE))


WAYS = (
    _direct, _nested, _in_a_closure, _in_a_partial, _as_items, _as_a_default, _through_a_channel,
)  # fmt: skip


@pytest.mark.parametrize("travel", WAYS, ids=lambda way: way.__name__.strip("_"))
def test_each_kind_works_in_a_running_worker(
    pool: Pool, travel: Callable[[Pool, dict[str, Any]], None]
) -> None:
    with everything(multiprocessing.get_context("spawn")) as (objects, ours):
        travel(pool, objects)

        assert look_at_each(objects, ours) == EXPECTED


@pytest.mark.parametrize("start_method", METHODS, ids=str)
def test_each_kind_works_in_a_worker_of_a_group(start_method: str | None) -> None:
    with everything(multiprocessing.get_context("spawn")) as (objects, ours):
        with WorkerGroup(start_method=start_method) as group:
            worker = group.start(use_each, objects)
            assert worker.result() == list(objects)

        assert look_at_each(objects, ours) == EXPECTED


@pytest.mark.parametrize("start_method", METHODS, ids=str)
def test_each_kind_travels_through_initargs(start_method: str | None) -> None:
    with everything(multiprocessing.get_context("spawn")) as (objects, ours):
        with Pool(1, start_method=start_method, initializer=_give, initargs=(objects,)) as pool:
            assert pool.submit(_use_given).result() == list(objects)

        assert look_at_each(objects, ours) == EXPECTED


def _give(objects: dict[str, Any]) -> None:
    given.update(objects)


def _use_given() -> list[str]:
    return use_each(given)


def test_each_kind_travels_to_run_workers() -> None:
    with everything(multiprocessing.get_context("spawn")) as (objects, ours):
        run_workers(lambda rank, objects: use_each(objects), 1, objects)

        assert look_at_each(objects, ours) == EXPECTED


def test_objects_of_a_forkserver_context_travel() -> None:
    with everything(multiprocessing.get_context("forkserver")) as (objects, ours):
        parallel_map(use_each, [objects])

        assert look_at_each(objects, ours) == EXPECTED


def test_what_arrived_can_be_sent_on() -> None:
    """A worker's own workers use them, too."""
    with everything(multiprocessing.get_context("spawn")) as (objects, ours):
        parallel_map(lambda objects: run_workers(_use_ranked, 1, objects), [objects])

        assert look_at_each(objects, ours) == EXPECTED


def _use_ranked(rank: int, objects: dict[str, Any]) -> None:
    use_each(objects)
