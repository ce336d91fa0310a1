"""A Manager and its proxies, in workers that run already."""

from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import managers
from typing import TYPE_CHECKING, Any

import pytest

from parmap import Channel, Pool, SerializationError, WorkerGroup, parallel_map, run_workers
from support.gates import PATIENCE
from support.scripts import output_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

METHODS = (None, "spawn", "forkserver", "fork")


@pytest.fixture(scope="module")
def manager() -> Iterator[Any]:
    with multiprocessing.get_context("spawn").Manager() as made:
        yield made


def _authkey() -> bytes:
    return bytes(multiprocessing.current_process().authkey)


@pytest.mark.parametrize("start_method", METHODS, ids=str)
def test_workers_have_the_authkey_of_their_parent(start_method: str | None) -> None:
    with Pool(1, start_method=start_method) as pool:
        assert pool.submit(_authkey).result() == _authkey()
    with WorkerGroup(start_method=start_method) as group:
        assert group.start(_authkey).result() == _authkey()


def test_a_running_worker_learns_an_authkey_that_was_set_later() -> None:
    """As programs do that talk to a manager elsewhere."""
    me = multiprocessing.current_process()
    before = me.authkey
    with Pool(1) as pool:
        pool.submit(_authkey).result()
        try:
            me.authkey = b"another"
            assert pool.submit(_authkey).result() == b"another"
        finally:
            me.authkey = before


def test_a_worker_that_imports_multiprocessing_itself_has_the_key(tmp_path: Path) -> None:
    """And none imports it because of that."""
    script = """
        import multiprocessing.process, sys
        from parmap import Pool

        def key():
            before = "multiprocessing" in sys.modules
            import multiprocessing.process
            return before, bytes(multiprocessing.current_process().authkey)

        with Pool(1) as pool:
            before, theirs = pool.submit(key).result()
        print(before, theirs == multiprocessing.current_process().authkey)
    """

    assert output_of(script, tmp_path) == "False True\n"


@pytest.mark.parametrize("start_method", METHODS, ids=str)
def test_proxies_work_in_a_running_worker(manager: Any, start_method: str | None) -> None:
    proxies = {
        "list": manager.list([1]), "dict": manager.dict(), "Namespace": manager.Namespace(),
        "Queue": manager.Queue(), "Lock": manager.Lock(), "Event": manager.Event(),
        "Value": manager.Value("i", 3),
    }  # fmt: skip

    with Pool(1, start_method=start_method) as pool:
        pool.submit(_use_proxies, proxies).result()

    assert list(proxies["list"]) == [1, 2]
    assert proxies["dict"].copy() == {"there": 1}
    assert proxies["Namespace"].x == 5
    assert proxies["Queue"].get(timeout=PATIENCE) == "there"
    assert not proxies["Lock"].acquire(False)
    assert proxies["Event"].is_set()
    assert proxies["Value"].value == 4


def _use_proxies(proxies: dict[str, Any]) -> None:
    proxies["list"].append(2)
    proxies["dict"]["there"] = 1
    proxies["Namespace"].x = 5
    proxies["Queue"].put("there")
    proxies["Lock"].acquire()
    proxies["Event"].set()
    proxies["Value"].value += 1


def test_a_proxy_inside_a_proxy_works_in_a_worker(manager: Any) -> None:
    outer = manager.list([manager.list([1])])

    parallel_map(lambda outer: outer[0].append(2), [outer])

    assert list(outer[0]) == [1, 2]


def test_a_proxy_travels_through_a_channel_and_to_run_workers(manager: Any) -> None:
    channel = Channel[Any]()
    shared = manager.list()
    channel.send(shared)

    run_workers(lambda rank, shared: channel.receive(timeout=PATIENCE).append(rank), 1, shared)

    assert list(shared) == [0]


@pytest.mark.parametrize("start_method", METHODS, ids=str)
def test_a_manager_itself_travels(manager: Any, start_method: str | None) -> None:
    """What the worker makes with it lives in the parent's server, and outlives the worker."""
    with Pool(1, start_method=start_method) as pool:
        made = pool.submit(lambda manager: manager.list([1, 2]), manager).result()

    assert list(made) == [1, 2]


def test_a_returned_proxy_keeps_what_it_stands_for_and_lets_it_go() -> None:
    with multiprocessing.get_context("spawn").Manager() as manager:
        with Pool(1) as pool:
            made = parallel_map(lambda _: manager.dict(a=1), range(3), pool=pool)
            assert [each.copy() for each in made] == [{"a": 1}] * 3

        assert manager._number_of_objects() == 3  # type: ignore[attr-defined]
        del made
        assert manager._number_of_objects() == 0  # type: ignore[attr-defined]


class _Counters(managers.BaseManager):
    """A program's own, with a key of its own."""


class _Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        self.count += 1
        return self.count


_Counters.register("Counter", _Counter)


def test_a_manager_with_a_key_of_its_own() -> None:
    with _Counters(authkey=b"secret", ctx=multiprocessing.get_context("spawn")) as manager:
        counter = manager.Counter()  # type: ignore[attr-defined]  # registered

        parallel_map(lambda counter: counter.add(), [counter, counter])

        assert counter.add() == 3


def test_a_manager_that_does_not_run_is_refused() -> None:
    with pytest.raises(SerializationError, match=r"args\[0\].*not running"):
        parallel_map(str, [_Counters()])


def test_no_key_gets_into_the_pickles_of_another_engine(manager: Any) -> None:
    """They may cross a network.  A proxy goes there as `pickle` sends it: without the key."""
    key = _authkey()
    payloads = []

    class Engine(ThreadPoolExecutor):
        """Pickles what it is given, as those do that have processes."""

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            payloads.append(pickle.dumps((fn, args, kwargs)))
            return super().submit(fn, *args, **kwargs)

    with Engine(1) as engine:
        parallel_map(lambda each: each.append(1), [manager.list()], pool=engine)

    assert payloads
    assert not any(key in payload for payload in payloads)


def test_a_key_alone_stays_here() -> None:
    """Nobody sends it by mistake, as in multiprocessing itself."""
    with pytest.raises(SerializationError, match="authkey"):
        parallel_map(len, [{"authkey": multiprocessing.current_process().authkey}])
