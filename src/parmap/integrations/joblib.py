"""parmap as a backend of joblib, and so of scikit-learn.

from joblib import Parallel, delayed, parallel_config
from parmap.integrations.joblib import register

register()
with parallel_config("parmap", n_jobs=2):
    Parallel()(delayed(pow)(x, 2) for x in range(5))
"""

from __future__ import annotations

__all__ = ["register"]

NAME = "parmap"


def register(*, make_default: bool = False) -> None:
    """Make ``"parmap"`` a backend that joblib knows, in this process.

    Args:
        make_default: use it wherever joblib is not told otherwise.
    """
    from joblib import register_parallel_backend

    from parmap.integrations._joblib_backend import ParmapBackend

    register_parallel_backend(NAME, ParmapBackend, make_default=make_default)
