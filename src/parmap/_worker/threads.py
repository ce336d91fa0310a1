"""The threads of numerical libraries within a worker: all workers together use each CPU once.

Most libraries read their number from the environment when they are loaded, so it stands there before
an item imports anything.  Those that are in a worker from its start (it was forked) are told by
`threadpoolctl`, if that is installed.  What the user has set wins, either way.
"""

from __future__ import annotations

import os
import sys

from parmap import _nesting

TYPE_CHECKING = False  # as checkers know it; importing typing would cost every worker 4 ms
if TYPE_CHECKING:
    from collections.abc import Mapping

_GENERAL = "OMP_NUM_THREADS"
# Each library looks at its own first, then at the general one.
_OWN = {
    "openblas": "OPENBLAS_NUM_THREADS",
    "mkl": "MKL_NUM_THREADS",
    "blis": "BLIS_NUM_THREADS",
    "numexpr": "NUMEXPR_NUM_THREADS",
    "accelerate": "VECLIB_MAXIMUM_THREADS",
}
# With one of these, a library that has threads is loaded.
_LOADERS = ("numpy", "torch")


def limit(threads: int) -> None:
    """Let libraries in this process use so many threads each, from now on."""
    variables = (_GENERAL, *_OWN.values())
    _nesting.thread_variables = dict.fromkeys(variables, str(threads))
    os.environ.update(unset(os.environ))
    if any(name in sys.modules for name in _LOADERS):
        _limit_loaded(threads)


def unset(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that are ours to set: of those libraries for which the user has set nothing."""
    if _GENERAL in environ:
        return {}
    return {name: value for name, value in _nesting.thread_variables.items() if name not in environ}


def users(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment without what is ours: a worker of this worker has another share of CPUs."""
    ours = _nesting.thread_variables
    return {name: value for name, value in environ.items() if ours.get(name) != value}


def _limit_loaded(threads: int) -> None:
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return  # nobody can tell them
    users_own = users(os.environ)
    if _GENERAL in users_own:
        return
    for library in ThreadpoolController().lib_controllers:
        variable = _OWN.get(library.internal_api, _GENERAL)
        if variable not in users_own and (library.num_threads or 1) > threads:
            library.set_num_threads(threads)
