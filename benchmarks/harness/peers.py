"""parmap and its peers behind one small interface, so that a scenario is written once.

Each is used as its documentation shows it, its workers are kept warm where it can keep them, and
`chunksize=None` means what its users get who say nothing.
"""

from __future__ import annotations

import importlib
import inspect
import multiprocessing
import os
import pickle
import socket
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.harness.scenario import Skipped
from benchmarks.harness.tasks import square

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Peer:
    """`map` is what all have; who lacks the rest sits out the scenario."""

    modules: tuple[str, ...] = ()

    def __init__(self, workers: int, options: dict[str, Any]) -> None:
        self.workers = workers
        self.options = options

    def warm(self) -> None:
        self.map(square, range(self.workers))

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any], chunk: int | None = None) -> Any:
        raise Skipped(f"{type(self).__name__} has no map")

    def imap(
        self, fn: Callable[[Any], Any], items: Iterable[Any], chunk: int | None = None
    ) -> Iterator[Any]:
        return iter(self.map(fn, items, chunk))

    def call(self, fn: Callable[[Any], Any], item: Any) -> Any:
        raise Skipped(f"{type(self).__name__} has no single call")

    def failures(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> list[BaseException]:
        raise Skipped(f"{type(self).__name__} stops at the first failure")

    def close(self) -> None:
        """End the workers."""


def given(**arguments: Any) -> dict[str, Any]:
    """The arguments that are not None."""
    return {name: value for name, value in arguments.items() if value is not None}


class Parmap(Peer):
    modules = ("parmap.mapping", "parmap.pool")

    def __init__(self, workers: int, options: dict[str, Any]) -> None:
        super().__init__(workers, options)
        import parmap

        self.parmap = parmap
        self.pool: parmap.Pool | None = None
        known = inspect.signature(parmap.parallel_map).parameters
        for name in options:
            if name not in known:
                raise Skipped(f"parallel_map has no {name}= yet")

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any], chunk: int | None = None) -> Any:
        return self.parmap.parallel_map(
            fn, items, max_workers=self.workers, chunksize=chunk, **self.options
        )

    def imap(
        self, fn: Callable[[Any], Any], items: Iterable[Any], chunk: int | None = None
    ) -> Iterator[Any]:
        options = {"max_workers": self.workers, "chunksize": chunk} | self.options
        results: Iterator[Any] = self.parmap.parallel_imap(fn, items, **options)
        return results

    def call(self, fn: Callable[[Any], Any], item: Any) -> Any:
        if self.pool is None:
            self.pool = self.parmap.Pool(self.workers)
        return self.pool.submit(fn, item).result()

    def failures(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> list[BaseException]:
        found: list[Any] = self.parmap.parallel_map(
            fn, items, max_workers=self.workers, on_error="return", **self.options
        )
        return [failure.error for failure in found]

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown()
        self.parmap.shutdown()


class ParmapOfOne(Parmap):
    """A single call as a map of one item."""

    def call(self, fn: Callable[[Any], Any], item: Any) -> Any:
        return self.parmap.parallel_map(fn, [item], max_workers=self.workers)[0]


class PoolMap(Peer):
    modules = ("multiprocessing.pool",)

    def __init__(self, workers: int, options: dict[str, Any]) -> None:
        super().__init__(workers, options)
        self.options = dict(options)
        context = multiprocessing.get_context(self.options.pop("start_method", None))
        self.pool: Any = context.Pool(workers, **self.options)

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any], chunk: int | None = None) -> Any:
        return self.pool.map(fn, items, chunk)

    def imap(
        self, fn: Callable[[Any], Any], items: Iterable[Any], chunk: int | None = None
    ) -> Iterator[Any]:
        results: Iterator[Any] = self.pool.imap(fn, items, **given(chunksize=chunk))
        return results

    def call(self, fn: Callable[[Any], Any], item: Any) -> Any:
        return self.pool.apply(fn, (item,))

    def failures(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> list[BaseException]:
        pending = [self.pool.apply_async(fn, (item,)) for item in items]
        return [failure for each in pending if (failure := caught(each.get)) is not None]

    def close(self) -> None:
        self.pool.terminate()
        self.pool.join()


class PoolImap(PoolMap):
    def map(self, fn: Callable[[Any], Any], items: Iterable[Any], chunk: int | None = None) -> Any:
        return list(self.imap(fn, items, chunk))


class PoolImapUnordered(PoolImap):
    def imap(
        self, fn: Callable[[Any], Any], items: Iterable[Any], chunk: int | None = None
    ) -> Iterator[Any]:
        results: Iterator[Any] = self.pool.imap_unordered(fn, items, **given(chunksize=chunk))
        return results


class Executor(Peer):
    modules = ("concurrent.futures.process",)

    def __init__(self, workers: int, options: dict[str, Any]) -> None:
        super().__init__(workers, options)
        self.executor = self.made()

    def made(self) -> Any:
        method = self.options.get("start_method")
        context = None if method is None else multiprocessing.get_context(method)
        return ProcessPoolExecutor(self.workers, mp_context=context)

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any], chunk: int | None = None) -> Any:
        return list(self.imap(fn, items, chunk))

    def imap(
        self, fn: Callable[[Any], Any], items: Iterable[Any], chunk: int | None = None
    ) -> Iterator[Any]:
        results: Iterator[Any] = self.executor.map(fn, items, **given(chunksize=chunk))
        return results

    def call(self, fn: Callable[[Any], Any], item: Any) -> Any:
        return self.executor.submit(fn, item).result()

    def failures(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> list[BaseException]:
        pending = [self.executor.submit(fn, item) for item in items]
        return [failure for each in pending if (failure := each.exception()) is not None]

    def close(self) -> None:
        self.executor.shutdown(cancel_futures=True)


class Loky(Executor):
    modules = ("loky",)

    def made(self) -> Any:
        import loky

        # Its workers go after 10 s without work: between two rounds others work for longer.
        return loky.ProcessPoolExecutor(self.workers, timeout=600)

    def close(self) -> None:
        self.executor.shutdown(kill_workers=True)


class Joblib(Peer):
    modules = ("joblib",)

    def __init__(self, workers: int, options: dict[str, Any]) -> None:
        super().__init__(workers, options)
        import joblib

        self.joblib = joblib

    def _run(self, fn: Any, items: Iterable[Any], chunk: int | None, **options: Any) -> Any:
        parallel = self.joblib.Parallel(self.workers, **given(batch_size=chunk), **options)
        return parallel(self.joblib.delayed(fn)(item) for item in items)

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any], chunk: int | None = None) -> Any:
        return self._run(fn, items, chunk)

    def imap(
        self, fn: Callable[[Any], Any], items: Iterable[Any], chunk: int | None = None
    ) -> Iterator[Any]:
        results: Iterator[Any] = self._run(fn, items, chunk, return_as="generator")
        return results

    def call(self, fn: Callable[[Any], Any], item: Any) -> Any:
        return self._run(fn, [item], None)[0]

    def close(self) -> None:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(kill_workers=True)


class Mpire(Peer):
    modules = ("mpire",)

    def __init__(self, workers: int, options: dict[str, Any]) -> None:
        super().__init__(workers, options)
        from mpire.pool import WorkerPool

        self.pool: Any = WorkerPool(workers, keep_alive=True)

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any], chunk: int | None = None) -> Any:
        return self.pool.map(fn, items, chunk_size=chunk, **self.options)

    def imap(
        self, fn: Callable[[Any], Any], items: Iterable[Any], chunk: int | None = None
    ) -> Iterator[Any]:
        results: Iterator[Any] = self.pool.imap(fn, items, chunk_size=chunk, **self.options)
        return results

    def call(self, fn: Callable[[Any], Any], item: Any) -> Any:
        return self.pool.apply(fn, (item,))

    def close(self) -> None:
        self.pool.terminate()


class Pebble(Peer):
    modules = ("pebble",)

    def __init__(self, workers: int, options: dict[str, Any]) -> None:
        super().__init__(workers, options)
        import pebble

        self.pool: Any = pebble.ProcessPool(max_workers=workers)

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any], chunk: int | None = None) -> Any:
        return list(self.imap(fn, items, chunk))

    def imap(
        self, fn: Callable[[Any], Any], items: Iterable[Any], chunk: int | None = None
    ) -> Iterator[Any]:
        results: Iterator[Any] = self.pool.map(
            fn, items, **given(chunksize=chunk), **self.options
        ).result()
        return results

    def call(self, fn: Callable[[Any], Any], item: Any) -> Any:
        return self.pool.schedule(fn, args=[item]).result()

    def failures(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> list[BaseException]:
        pending = [self.pool.schedule(fn, args=[item]) for item in items]
        return [failure for each in pending if (failure := each.exception()) is not None]

    def close(self) -> None:
        self.pool.stop()
        self.pool.join()


class Loop(Peer):
    def map(self, fn: Callable[[Any], Any], items: Iterable[Any], chunk: int | None = None) -> Any:
        return [fn(item) for item in items]

    def call(self, fn: Callable[[Any], Any], item: Any) -> Any:
        return fn(item)

    def failures(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> list[BaseException]:
        attempts = (caught(partial(fn, item)) for item in items)
        return [failure for failure in attempts if failure is not None]


class Fork(Peer):
    """The floor: one fork for each worker, every n-th item, results through a pipe; nothing is kept,
    nothing balanced, no failure handled."""

    def warm(self) -> None:
        """Each call forks anew: there is nothing to warm."""

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any], chunk: int | None = None) -> Any:
        todo = items if isinstance(items, (list, range)) else list(items)
        children = [self._child(fn, todo[part :: self.workers]) for part in range(self.workers)]
        results: list[Any] = [None] * len(todo)
        for part, (pid, reader) in enumerate(children):
            with os.fdopen(reader, "rb", 1 << 20) as pipe:
                results[part :: self.workers] = pickle.load(pipe)
            os.waitpid(pid, 0)
        return results

    @staticmethod
    def _child(fn: Callable[[Any], Any], items: Iterable[Any]) -> tuple[int, int]:
        reader, writer = os.pipe()
        if pid := os.fork():
            os.close(writer)
            return pid, reader
        status = 1
        try:
            with os.fdopen(writer, "wb", 1 << 20) as pipe:
                pickle.dump([fn(item) for item in items], pipe, 5)
            status = 0
        finally:
            os._exit(status)


class PingPong(Peer):
    """The floor of a single call: a few bytes over a socketpair to a forked child, and back."""

    def __init__(self, workers: int, options: dict[str, Any]) -> None:
        super().__init__(workers, options)
        self.ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid:
            theirs.close()
            return
        self.ours.close()
        while ball := theirs.recv(64):
            theirs.send(ball)
        os._exit(0)

    def warm(self) -> None:
        self.call(square, 1)

    def call(self, fn: Callable[[Any], Any], item: Any) -> Any:
        self.ours.send(b"%d" % fn(item))
        return int(self.ours.recv(64))

    def close(self) -> None:
        self.ours.close()
        os.waitpid(self.pid, 0)


def caught(work: Callable[[], object]) -> BaseException | None:
    try:
        work()
    except Exception as failure:  # noqa: BLE001 - whatever a peer raises is what it makes of a failure
        return failure
    return None


PEERS: dict[str, type[Peer]] = {
    "parmap": Parmap,
    "parallel_map([x])": ParmapOfOne,
    "Pool.map": PoolMap,
    "Pool.imap": PoolImap,
    "Pool.imap_unordered": PoolImapUnordered,
    "Executor": Executor,
    "joblib": Joblib,
    "loky": Loky,
    "mpire": Mpire,
    "pebble": Pebble,
    "fork": Fork,
    "loop": Loop,
    "ping-pong": PingPong,
}


def load(name: str) -> None:
    """Import what the peer needs: its users have done that long before. `Skipped` when it is not
    installed."""
    try:
        for module in PEERS[name].modules:
            importlib.import_module(module)
    except ModuleNotFoundError as missing:
        raise Skipped(f"{missing.name} is not installed") from None
