"""What joblib asks of a backend, over a parmap `Pool` that stays warm between calls."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from joblib.parallel import AutoBatchingMixin, ParallelBackendBase

from parmap import options
from parmap.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future


class _Warm:
    """The pool that joblib's calls share, as they share loky's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: Pool | None = None

    def pool(self, workers: int) -> Pool:
        """A pool of so many workers."""
        with self._lock:
            if (
                self._pool is None
                or self._pool.max_workers != workers
                or not self._pool._driver.alive
            ):
                if self._pool is not None:
                    self._pool.shutdown(wait=False)
                self._pool = Pool(workers, name="joblib")
            return self._pool

    def drop(self, pool: Pool) -> None:
        """End what it runs."""
        with self._lock:
            if pool is self._pool:
                self._pool = None
        pool._driver.close(cancel=True)


_warm = _Warm()


class _Limited:
    """A batch that runs with so many threads in each BLAS and OpenMP library."""

    def __init__(self, batch: Callable[[], Any], threads: int) -> None:
        self._batch = batch
        self._threads = threads

    def __call__(self) -> Any:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(self._threads):
            return self._batch()


class ParmapBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib is untyped
    """What joblib asks of a backend, over a parmap `Pool` that stays warm between calls."""

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    _pool: Pool | None = None

    # joblib's base class is untyped, and a checker guesses from what it does not return.
    def effective_n_jobs(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, n_jobs: int | None
    ) -> int:
        """How many workers `n_jobs` means: joblib counts negative ones back from all CPUs."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(options.usable_cpus() + 1 + n_jobs, 1)

    def configure(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: Any = None,
        require: Any = None,
        **_: Any,
    ) -> int:
        """Get ready for one `Parallel`; one worker alone is joblib's own sequential backend."""
        from joblib._parallel_backends import FallbackToBackend, SequentialBackend

        workers = self.effective_n_jobs(n_jobs)
        if workers == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        self._pool = _warm.pool(workers)
        return workers

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Future[Any]], object] | None = None
    ) -> Future[Any]:
        """Start a batch; `callback` gets its future when it is done."""
        assert self._pool is not None
        if self.inner_max_num_threads is not None:
            func = _Limited(func, self.inner_max_num_threads)
        future = self._pool.submit(func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """The results of a batch, or its error."""
        return out.result()

    def terminate(self) -> None:
        """Let the pool go; it stays warm for the next `Parallel`."""
        self._pool = None
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """A batch has failed, or its caller was interrupted: end the others."""
        pool, self._pool = self._pool, None
        if pool is not None:
            _warm.drop(pool)
            if ensure_ready:
                self._pool = _warm.pool(pool.max_workers)
