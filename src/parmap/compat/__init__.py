"""`multiprocessing.Pool`'s drop-in: a program changes its import and keeps running.

    >>> from parmap.compat import Pool
    >>> with Pool(2) as pool:
    ...     pool.map(lambda x: x * x, range(4))
    [0, 1, 4, 9]

Methods, arguments and the order of events are multiprocessing's.  What is new: lambdas and closures
travel, no ``__main__`` guard is needed, a worker that dies fails only what it was running
(`WorkerLostError`), and nothing hangs: a call that was open when the pool was terminated gets
`PoolClosedError`.
"""

from __future__ import annotations

from parmap.compat.pool import Pool
from parmap.compat.results import AsyncResult, IMapIterator

__all__ = ["AsyncResult", "IMapIterator", "Pool"]
