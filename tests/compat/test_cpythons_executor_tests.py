"""CPython's own tests of executors (`test.test_concurrent_futures`), run against `Pool`.

They come with the Python that runs, from 3.13 on as a package that can be subclassed.  All that
assert public behaviour are run as they are; only the name of the class is changed in the scripts that
they start.  `LEFT_OUT` says which are not, why, and where the counterpart is: in
tests/integration/test_executor.py, if nothing else is said.
"""

from __future__ import annotations

import importlib
import multiprocessing
from concurrent.futures import BrokenExecutor

import pytest

from parmap import Pool

NAME = "test.test_concurrent_futures"
pytest.importorskip(f"{NAME}.executor", reason="from Python 3.13 on these tests are a package")
util, processes, wait, completed, ending, init, deadlock = (
    importlib.import_module(f"{NAME}.{name}")
    for name in (
        "util",
        "test_process_pool",
        "test_wait",
        "test_as_completed",
        "test_shutdown",
        "test_init",
        "test_deadlock",
    )
)

pytestmark = pytest.mark.slow  # they sleep

PRIVATE = "reads private attributes of ProcessPoolExecutor"
BREAKS = "asks that the whole pool breaks"
OUR_ERROR = "asks for the bare error of pickling; ours is the cause of a SerializationError"

LEFT_OUT = {
    # counterpart: test_a_killed_worker_costs_its_own_task_and_the_pool_goes_on
    "test_killed_child": f"{PRIVATE}, and {BREAKS}",
    # counterpart: test_an_initializer_that_fails_is_the_error_of_every_task
    "TestFailingInitializer.test_initializer": f"{PRIVATE}, and {BREAKS}",
    # counterpart: test_many_tasks_that_wait_need_no_more_workers_than_allowed
    "test_saturation": PRIVATE,
    # counterpart: test_one_worker_serves_tasks_that_follow_each_other
    "test_idle_process_reuse_one": PRIVATE,
    "test_idle_process_reuse_multiple": PRIVATE,
    # counterpart: test_a_worker_is_replaced_after_so_many_tasks
    "test_max_tasks_per_child": PRIVATE,
    "test_max_tasks_per_child_defaults_to_spawn_context": PRIVATE,
    # counterpart: test_no_worker_outlives_the_pool
    "test_processes_terminate": PRIVATE,
    "test_context_manager_shutdown": "makes a ProcessPoolExecutor by name",
    # counterpart: test_a_map_finishes_when_its_pool_is_shut_down_without_waiting
    "test_shutdown_no_wait": "makes a ProcessPoolExecutor by name",
    # counterpart: test_a_map_finishes_when_its_pool_is_dropped
    "test_del_shutdown": "makes a ProcessPoolExecutor by name",
    "test_python_finalization_error": "replaces a function of threading that only the original calls",
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": "replaces parts of the original",
    # counterpart: test_a_task_fails_with_its_own_traceback
    "test_traceback": "asks that the cause be a _RemoteTraceback; ours is the real traceback",
    # counterpart: test_shutdown_can_cancel_what_no_worker_has_begun
    "test_cancel_futures": "asks that one task at least was quicker than shutdown; ours have no queue"
    " that is filled beforehand, so while workers start all of them can be cancelled",
    # counterpart: test_nothing_can_be_submitted_after_the_interpreters_shutdown
    "test_submit_after_interpreter_shutdown": "asks for a RuntimeError of that very text",
    # counterparts: test_what_cannot_be_pickled_costs_its_own_task (all six)
    "test_error_at_task_pickle": OUR_ERROR,
    "test_shutdown_deadlock_pickle": f"{OUR_ERROR}; {PRIVATE}",
    "test_error_during_result_pickle_on_worker": OUR_ERROR,
    "test_exit_during_result_pickle_on_worker": OUR_ERROR,
    "test_error_at_task_unpickle": BREAKS,
    "test_exit_at_task_unpickle": BREAKS,
    "test_error_during_result_unpickle_in_result_handler": BREAKS,
    "test_exit_during_result_unpickle_in_result_handler": BREAKS,
}


class _PoolMixin(util.ExecutorMixin):
    executor_type = Pool
    start_method = "spawn"

    def get_context(self):
        return multiprocessing.get_context(self.start_method)


def _with_our_import(assert_python_ok):
    """The scripts that the tests start import the executor by the name of its class."""

    def run(option, script):
        script = script.replace("from concurrent.futures import Pool", "from parmap import Pool")
        return assert_python_ok(option, script)

    return run


class TestExecutor(_PoolMixin, processes.ProcessPoolExecutorTest, util.BaseTestCase):
    pass


class TestWait(_PoolMixin, wait.WaitTests, util.BaseTestCase):
    pass


class TestAsCompleted(_PoolMixin, completed.AsCompletedTests, util.BaseTestCase):
    pass


class TestInitializer(_PoolMixin, init.InitializerMixin, util.BaseTestCase):
    pass


class TestFailingInitializer(_PoolMixin, init.FailingInitializerMixin, util.BaseTestCase):
    pass


class TestShutdown(_PoolMixin, ending.ProcessPoolShutdownTest, util.BaseTestCase):
    def setUp(self):
        super().setUp()
        patch = pytest.MonkeyPatch()
        patch.setattr(ending, "assert_python_ok", _with_our_import(ending.assert_python_ok))
        self.addCleanup(patch.undo)


class TestDeadlock(_PoolMixin, deadlock.ExecutorDeadlockTest, util.BaseTestCase):
    """A loss is a `BrokenExecutor` here as there, but not of the class of the original's pool."""

    def setUp(self):
        super().setUp()
        patch = pytest.MonkeyPatch()
        patch.setattr(deadlock, "BrokenProcessPool", BrokenExecutor)
        self.addCleanup(patch.undo)


CASES = (
    TestExecutor, TestWait, TestAsCompleted, TestInitializer, TestFailingInitializer, TestShutdown,
    TestDeadlock,
)  # fmt: skip


def test_what_is_left_out_exists():
    """A test that CPython has renamed would be run, and fail for no reason of ours."""
    names = {name.rpartition(".")[2] for name in LEFT_OUT}

    assert {name for case in CASES for name in names if hasattr(case, name)} == names


def _leave_out() -> None:
    for left_out in LEFT_OUT:
        owner, _, name = left_out.rpartition(".")
        for case in CASES:
            if owner in ("", case.__name__) and hasattr(case, name):
                setattr(case, name, None)


_leave_out()
