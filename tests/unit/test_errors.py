"""The public errors: what they say, what they are, and that they survive a pickle."""

# mypy: no-check-untyped-defs
# mypy: disable-error-code="override, misc, arg-type"
# (Exceptions are given odd parts on purpose.)

from __future__ import annotations

import concurrent.futures
import copy
import doctest
import pickle
import queue
import subprocess
import sys

import pytest

from parmap import _slow_errors, errors
from parmap.errors import (
    BrokenChannelError,
    CallTimeoutError,
    ChannelEmpty,
    ChannelError,
    ChannelFull,
    ClosedChannelError,
    EndOfChannel,
    InternalError,
    ParmapError,
    PoolClosedError,
    RemoteError,
    SerializationError,
    TaskErrorGroup,
    TaskFailure,
    TaskTimeoutError,
    WorkerLostError,
    WorkerStartError,
    attach_failure,
    attributes_of,
    death_in_words,
    failure_of,
    printable,
    short_repr,
)

EXAMPLES = [
    ParmapError("one", 2, [3]),
    WorkerLostError(
        "gone",
        index=3,
        exitcode=-9,
        signal="SIGKILL",
        attempts=2,
        stack="a stack",
        peak_rss=1 << 40,
        oom_kills=1,
    ),
    WorkerStartError("no", exitcode=3, hint="try this"),
    TaskTimeoutError("late", index=0, stack="File x"),
    CallTimeoutError("late", results=[1, None, "x"]),
    SerializationError("no", direction="to caller", path="result[3]"),
    RemoteError("shop.Refused", "no stock", "Traceback ..."),
    PoolClosedError("closed"),
    ChannelError("c"),
    ClosedChannelError("c"),
    BrokenChannelError("c", item={"x": 1}),
    EndOfChannel("c"),
    ChannelFull("c"),
    ChannelEmpty("c"),
    InternalError("impossible", ["first", "second"]),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling_with_every_attribute(error, protocol):
    error.extra = "the user's own"
    error.add_note("a note")
    back = pickle.loads(pickle.dumps(error, protocol))

    assert type(back) is type(error)
    assert back.args == error.args
    assert str(back) == str(error)
    assert attributes_of(back) == attributes_of(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_copying(error):
    for back in (copy.copy(error), copy.deepcopy(error)):
        assert (type(back), back.args, str(back)) == (type(error), error.args, str(error))


@pytest.mark.parametrize(
    ("cls", "bases"),
    [
        (WorkerLostError, (ParmapError, concurrent.futures.BrokenExecutor, RuntimeError)),
        (WorkerStartError, (ParmapError,)),
        (TaskTimeoutError, (ParmapError, TimeoutError)),
        (CallTimeoutError, (ParmapError, TimeoutError)),
        (SerializationError, (ParmapError, TypeError)),
        (RemoteError, (ParmapError,)),
        (PoolClosedError, (ParmapError, RuntimeError)),
        (ClosedChannelError, (ChannelError, ParmapError)),
        (BrokenChannelError, (ChannelError, ParmapError)),
        (EndOfChannel, (ChannelError, EOFError)),
        (ChannelFull, (ChannelError, queue.Full)),
        (ChannelEmpty, (ChannelError, queue.Empty)),
        (InternalError, (ParmapError,)),
        (TaskErrorGroup, (ExceptionGroup,)),
    ],
)
def test_an_error_is_caught_by_the_handlers_that_users_already_have(cls, bases):
    assert issubclass(cls, bases[0])
    assert all(issubclass(cls, base) for base in bases)


def test_every_public_name_is_found_in_parmap_errors_and_calls_itself_so():
    for name in errors.__all__:
        public = getattr(errors, name)
        assert (public.__module__, public.__qualname__) == ("parmap.errors", name)
        assert name in dir(errors)
        assert public.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"parmap\.errors.*Nonsense"):
        errors.Nonsense  # noqa: B018


def test_the_lazily_defined_errors_have_running_examples():
    finder = doctest.DocTestFinder()
    for test in finder.find(WorkerLostError, "WorkerLostError", module=False, globs=vars(errors)):
        assert doctest.DocTestRunner().run(test).failed == 0


def test_a_worker_that_imports_the_errors_does_not_pay_for_concurrent_futures():
    heavy = ["concurrent.futures", "logging", "queue", "dataclasses", "inspect", "typing", "enum"]
    code = f"""
import sys, parmap; before = set(sys.modules)
import parmap.errors
new = set(sys.modules) - before
print(*[name for name in {heavy!r} if name in new])
parmap.errors.WorkerLostError
print("concurrent.futures" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["", "True"]


def test_the_lazy_classes_are_one_and_the_same_object():
    assert errors.WorkerLostError is _slow_errors.WorkerLostError
    assert pickle.loads(pickle.dumps(WorkerLostError)) is WorkerLostError


def test_a_group_pickles_with_its_results_and_keeps_who_is_who():
    error = ValueError("bad")
    failure = TaskFailure(1, error, attempts=2)
    attach_failure(error, failure)
    group = TaskErrorGroup("1 of 2 failed", [error], results=[10, failure])

    back = pickle.loads(pickle.dumps(group))

    assert type(back) is TaskErrorGroup
    assert back.message == "1 of 2 failed"
    assert back.results[0] == 10
    assert back.results[1].error is back.exceptions[0]
    assert failure_of(back.exceptions[0]) is back.results[1]


def test_the_parts_of_a_split_group_keep_the_results():
    group = TaskErrorGroup("two", [ValueError(1), TypeError(2)], results=["r"])
    match, rest = group.split(ValueError)

    assert type(match) is type(rest) is TaskErrorGroup
    assert match.results is rest.results is group.results


def test_except_star_keeps_the_results():
    caught = []
    try:
        raise TaskErrorGroup("two", [ValueError(1), TypeError(2)], results=["r"])
    except* ValueError as group:
        caught.append(group)
    except* TypeError as group:
        caught.append(group)
    assert [group.results for group in caught] == [["r"], ["r"]]


def test_a_failure_is_frozen():
    failure = TaskFailure(3, ValueError("bad"))
    with pytest.raises(AttributeError, match="frozen"):
        failure.index = 4
    with pytest.raises(AttributeError, match="frozen"):
        del failure.index
    assert failure.index == 3


def test_a_failure_raises_its_own_error_again():
    error = ValueError("bad")
    with pytest.raises(ValueError, match="bad") as caught:
        TaskFailure(3, error).reraise()
    assert caught.value is error


def test_a_failure_and_its_error_refer_to_each_other_through_a_pickle_from_either_side():
    error = ValueError("bad")
    failure = TaskFailure(3, error, 2, others=[TaskFailure(4, KeyError("k"))])
    attach_failure(error, failure)

    back = pickle.loads(pickle.dumps(failure))
    assert (back.index, back.attempts, back.others[0].index) == (3, 2, 4)
    assert failure_of(back.error) is back

    error_back = pickle.loads(pickle.dumps(error))
    assert failure_of(error_back).error is error_back


def test_a_failure_shows_what_matters():
    failure = TaskFailure(3, ValueError("bad"), 2, [TaskFailure(4, KeyError("k"))])
    assert (
        repr(failure) == "<TaskFailure of item 3: ValueError('bad'), after 2 attempts, and 1 more>"
    )


def test_a_failure_matches_by_position():
    match TaskFailure(3, ValueError("bad")):
        case TaskFailure(index, ValueError()):
            assert index == 3
        case _:
            pytest.fail("no match")


class Refuses(Exception):
    __slots__ = ()

    def __setattr__(self, name, value):
        raise SystemExit

    def __getattribute__(self, name):
        raise KeyboardInterrupt

    def __bool__(self):
        return False

    def __repr__(self):
        raise GeneratorExit


def test_a_failure_attaches_to_an_exception_that_refuses_everything():
    error = Refuses()
    failure = TaskFailure(0, error)
    assert attach_failure(error, failure) is error
    assert failure_of(error) is failure
    assert "Refuses whose repr raised GeneratorExit" in repr(failure)


def test_an_exception_that_lies_about_its_failure_has_none():
    error = ValueError()
    error.__dict__["__parmap_failure__"] = "nonsense"
    assert failure_of(error) is None


@pytest.mark.parametrize(
    ("exitcode", "words"),
    [
        (None, "ended, nobody knows how"),
        (0, "exited with status 0"),
        (3, "exited with status 3"),
        (-9, "was killed by SIGKILL, probably out of memory"),
        (-11, "was killed by SIGSEGV (segmentation fault)"),
        (-6, "was killed by SIGABRT (it aborted itself)"),
        (-2, "was killed by SIGINT"),
        (-50, "was killed by signal 50"),
    ],
)
def test_a_death_in_words(exitcode, words):
    assert death_in_words(exitcode) == words


def test_a_kill_is_blamed_on_memory_only_as_far_as_is_known():
    assert death_in_words(-9, oom_kills=0) == (
        "was killed by SIGKILL, and not out of memory: the kernel has counted no such kill"
    )
    assert death_in_words(-9, oom_kills=2) == "was killed by SIGKILL: out of memory"


def test_a_lost_worker_says_what_happened():
    error = WorkerLostError(index=3, exitcode=-11, attempts=2)
    assert error.signal == "SIGSEGV"
    assert str(error) == (
        "the worker running item 3 was killed by SIGSEGV (segmentation fault) (attempt 2)"
    )


def test_names_of_tasks_cannot_repaint_the_terminal():
    nasty = "\x1b[2J\r\x07\x9b31m\u202egpj"
    for error in (
        RemoteError(nasty, nasty),
        SerializationError("no", direction="to worker", path=nasty),
        TaskTimeoutError(stack=nasty),
        WorkerLostError(stack=nasty),
        InternalError("no", [nasty]),
    ):
        assert not set("\x1b\r\x07\x9b\u202e") & set(str(error))
    assert printable("tab\tand\nline stay") == "tab\tand\nline stay"


def test_a_short_repr_is_one_short_line():
    assert short_repr("a\nb") == r"'a\nb'"
    assert short_repr(list(range(1000))) == repr(list(range(1000)))[:75] + "...9]"
    assert len(short_repr("x" * 1000)) == 80
