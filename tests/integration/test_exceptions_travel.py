"""A task's exception reaches the caller as the loop would have raised it."""

# mypy: disable-error-code="union-attr, attr-defined, arg-type"
# What the tests look at are attributes that each exception brings along.

from __future__ import annotations

import concurrent.futures
import os
import pickle
import re
import subprocess
import sys
import threading
import traceback

import pytest

from parmap import (
    ParmapError,
    Pool,
    RemoteError,
    TaskErrorGroup,
    TaskFailure,
    failure_of,
    parallel_imap,
    parallel_map,
    parallel_starmap,
)
from support.gates import Diary, Gate, kept_pool, warm_pool
from support.scripts import LIMIT, environment, program
from support.tasks import START_METHODS, fail, fail_if_odd


@pytest.fixture(scope="module")
def keeper(tmp_path_factory):
    with kept_pool(tmp_path_factory) as keeper:
        yield keeper


@pytest.fixture
def pool(keeper):
    with keeper.lend() as pool:
        yield pool


class TwoArguments(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")
        self.first = first
        self.second = second


class KeywordOnly(Exception):
    def __init__(self, *, code):
        super().__init__(f"code {code}")
        self.code = code


class NoArgumentsInSuper(Exception):
    def __init__(self, value):
        self.value = value


class BadReduce(Exception):
    def __reduce__(self):
        raise RuntimeError("no reduce")


class ReducesToNonsense(Exception):
    def __reduce__(self):
        return 17


class ExitsInReduce(Exception):
    def __reduce__(self):
        raise SystemExit(3)


def _refuse(*_):
    raise RuntimeError("no rebuild")


class FailsToUnpickle(Exception):
    def __reduce__(self):
        return _refuse, ()


class BadStr(Exception):
    def __str__(self):
        raise RuntimeError("no str")

    __repr__ = __str__


class Falsy(Exception):
    def __bool__(self):
        return False

    def __len__(self):
        return 0


class Frozen(Exception):
    def __setattr__(self, name, value):
        raise AttributeError("frozen")


class Slotted(Exception):
    __slots__ = ("code",)

    def __init__(self, code):
        super().__init__("slotted")
        self.code = code


class Equal(Exception):
    def __eq__(self, other):
        raise RuntimeError("no comparison")

    __hash__ = None


class Base(BaseException):
    pass


def local_class():
    class Local(ValueError):
        pass

    return Local("local")


def with_attributes():
    error = ValueError("attributes")
    error.code = 5
    error.lock = threading.Lock()
    return error


SHAPES = {
    "plain": (lambda: ValueError("plain"), ValueError, "plain"),
    "no arguments": (lambda: ValueError(), ValueError, ""),
    "two arguments": (lambda: TwoArguments(1, "b"), TwoArguments, "1 and b"),
    "keyword only": (lambda: KeywordOnly(code=3), KeywordOnly, "code 3"),
    "no super": (lambda: NoArgumentsInSuper(3), NoArgumentsInSuper, "3"),
    "bad reduce": (lambda: BadReduce("x"), (BadReduce, RemoteError), "x"),
    "nonsense reduce": (lambda: ReducesToNonsense("x"), (ReducesToNonsense, RemoteError), "x"),
    "exit in reduce": (lambda: ExitsInReduce("x"), (ExitsInReduce, RemoteError), "x"),
    "fails to unpickle": (lambda: FailsToUnpickle("x"), (FailsToUnpickle, RemoteError), "x"),
    "unpicklable attribute": (with_attributes, ValueError, "attributes"),
    "unpicklable argument": (lambda: ValueError(threading.Lock()), (ValueError, RemoteError), "lock"),
    "local class": (local_class, ValueError, "local"),
    "base exception": (lambda: Base("base"), Base, "base"),
    "system exit": (lambda: SystemExit(3), SystemExit, "3"),
    "keyboard interrupt": (lambda: KeyboardInterrupt("fake"), KeyboardInterrupt, "fake"),
    "generator exit": (lambda: GeneratorExit("g"), GeneratorExit, "g"),
    "stop iteration": (lambda: StopIteration(3), RuntimeError, "StopIteration"),
    "stop async iteration": (lambda: StopAsyncIteration(3), StopAsyncIteration, "3"),
    "timeout": (lambda: TimeoutError("mine"), TimeoutError, "mine"),
    "end of file": (lambda: EOFError("mine"), EOFError, "mine"),
    "connection reset": (lambda: ConnectionResetError(104, "mine"), ConnectionResetError, "mine"),
    "broken pipe": (lambda: BrokenPipeError("mine"), BrokenPipeError, "mine"),
    "blocking": (lambda: BlockingIOError("mine"), BlockingIOError, "mine"),
    "interrupted": (lambda: InterruptedError("mine"), InterruptedError, "mine"),
    "cancelled": (
        lambda: concurrent.futures.CancelledError("mine"), concurrent.futures.CancelledError, "mine",
    ),
    "broken executor": (
        lambda: concurrent.futures.BrokenExecutor("mine"), concurrent.futures.BrokenExecutor, "mine",
    ),
    "queue empty": (lambda: __import__("queue").Empty("mine"), __import__("queue").Empty, "mine"),
    "memory error": (lambda: MemoryError("mine"), MemoryError, "mine"),
    "import error": (lambda: ImportError("m", name="n", path="p"), ImportError, "m"),
    "unicode error": (
        lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), UnicodeDecodeError, "bad",
    ),
    "file not found": (lambda: FileNotFoundError(2, "gone", "file"), FileNotFoundError, "gone"),
    "syntax error": (lambda: SyntaxError("bad", ("f", 1, 2, "x y", 1, 3)), SyntaxError, "bad"),
    "bad str": (lambda: BadStr("x"), BadStr, None),
    "falsy": (lambda: Falsy("x"), Falsy, "x"),
    "frozen": (lambda: Frozen("x"), Frozen, "x"),
    "slotted": (lambda: Slotted(4), Slotted, "slotted"),
    "no comparison": (lambda: Equal("x"), Equal, "x"),
    "group": (lambda: ExceptionGroup("g", [ValueError(1), KeyError(2)]), ExceptionGroup, "g"),
    "base group": (lambda: BaseExceptionGroup("g", [Base(1)]), BaseExceptionGroup, "g"),
    "huge text": (lambda: ValueError("x" * 1_000_000), ValueError, "xxx"),
    "surrogates": (lambda: ValueError("\udcff"), ValueError, "\udcff"),
}  # fmt: skip


def raise_it(make):
    raise make()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("way", ["map", "imap", "unordered", "submit"])
def test_an_exception_of_any_shape_arrives_as_itself(pool, shape, way):
    make, expected, text = SHAPES[shape]

    with pytest.raises(expected) as caught:
        if way == "map":
            parallel_map(raise_it, [make], pool=pool)
        elif way == "submit":
            pool.submit(raise_it, make).result(LIMIT)
        else:
            list(parallel_imap(raise_it, [make], ordered=way == "imap", pool=pool))

    error = caught.value
    if text is not None:
        assert text in (error.text if isinstance(error, RemoteError) else str(error))
    assert failure_of(error) is not None
    assert failure_of(error).index == 0
    notes = [note for note in error.__notes__ if re.match(r"parmap: item 0 ", note)]
    assert len(notes) == 1
    assert [f.name for f in traceback.extract_tb(error.__traceback__)].count("raise_it") >= (
        0 if isinstance(error, RemoteError) or shape == "stop iteration" else 1
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_an_exception_of_any_shape_costs_only_its_own_item(pool, shape):
    make, expected, _ = SHAPES[shape]

    def task(x):
        if x == 7:
            raise make()
        return x

    results = parallel_map(task, range(20), on_error="return", pool=pool)

    failure = results[7]
    assert type(failure) is TaskFailure
    assert isinstance(failure.error, expected)
    assert (failure.index, failure.attempts, failure.others) == (7, 1, ())
    assert [*results[:7], *results[8:]] == [x for x in range(20) if x != 7]


@pytest.mark.parametrize("shape", SHAPES)
def test_an_exception_of_any_shape_fits_into_the_group(pool, shape):
    make, expected, _ = SHAPES[shape]

    def task(x):
        if x == 1:
            raise make()
        return x

    with pytest.raises(TaskErrorGroup) as caught:
        parallel_map(task, range(3), on_error="group", pool=pool)

    [error] = caught.value.exceptions
    if not isinstance(error, expected):
        assert type(error) is RemoteError  # it is no Exception, so it cannot be in a group itself
        assert isinstance(error.__cause__, expected)
    results = caught.value.results
    assert (results[0], results[2]) == (0, 2)
    assert isinstance(results[1], TaskFailure)
    assert isinstance(results[1].error, expected)


@pytest.mark.parametrize("method", START_METHODS)
def test_every_start_method_raises_the_same(tmp_path, method):
    with warm_pool(tmp_path, 1, start_method=method) as pool:
        with pytest.raises(TwoArguments) as caught:
            parallel_map(raise_it, [SHAPES["two arguments"][0]], pool=pool)
        assert (caught.value.first, caught.value.second) == (1, "b")
        with pytest.raises(SystemExit):
            parallel_map(raise_it, [SHAPES["system exit"][0]], pool=pool)


def test_attributes_arrive_and_those_that_cannot_travel_are_named(pool):
    with pytest.raises(ValueError, match="attributes") as caught:
        parallel_map(raise_it, [with_attributes], pool=pool)

    assert caught.value.code == 5
    assert not hasattr(caught.value, "lock")
    assert any("lock" in note for note in caught.value.__notes__)


def test_attributes_of_every_constructor_arrive(pool):
    results = parallel_map(
        raise_it,
        [SHAPES[name][0] for name in ("two arguments", "keyword only", "no super", "slotted")],
        on_error="return", pool=pool,
    )  # fmt: skip
    two, keyword, none, slotted = (failure.error for failure in results)
    assert (two.first, two.second, two.args) == (1, "b", ("1 and b",))
    assert keyword.code == 3
    assert (none.value, none.args) == (3, (3,))
    assert slotted.code == 4


def test_system_errors_keep_their_fields(pool):
    [missing, wrong, imported, status] = (
        failure.error
        for failure in parallel_map(
            raise_it,
            [SHAPES[n][0] for n in ("file not found", "unicode error", "import error", "system exit")],
            on_error="return", pool=pool,
        )
    )  # fmt: skip
    assert (missing.errno, missing.strerror, missing.filename) == (2, "gone", "file")
    assert (wrong.object, wrong.start, wrong.reason) == (b"\xff", 0, "bad")
    assert (imported.name, imported.path) == ("n", "p")
    assert status.code == 3


def test_a_stand_in_tells_of_the_original(pool):
    with pytest.raises((FailsToUnpickle, RemoteError)) as caught:
        parallel_map(raise_it, [lambda: FailsToUnpickle("some text")], pool=pool)
    error = caught.value
    if isinstance(error, RemoteError):
        assert error.type_name.endswith("FailsToUnpickle")
        assert error.text == "some text"
        assert "raise_it" in error.formatted_traceback
        assert isinstance(error, ParmapError)


def chained(_):
    try:
        try:
            raise KeyError("context")
        except KeyError:
            raise ValueError("cause")  # noqa: B904  # its context is the point
    except ValueError as cause:
        cause.add_note("a note of the cause")
        error = RuntimeError("effect")
        error.add_note("a note of mine")
        raise error from cause


def test_causes_contexts_and_notes_arrive_with_their_tracebacks(pool):
    with pytest.raises(RuntimeError, match="effect") as caught:
        parallel_map(chained, [1], pool=pool)

    error = caught.value
    cause = error.__cause__
    assert type(cause) is ValueError
    assert type(cause.__context__) is KeyError
    assert error.__suppress_context__
    assert error.__notes__[0] == "a note of mine"
    assert cause.__notes__ == ["a note of the cause"]
    for each in (error, cause, cause.__context__):
        assert traceback.extract_tb(each.__traceback__)[-1].name == "chained"
    assert failure_of(cause) is None


def test_a_context_that_was_suppressed_stays_suppressed(pool):
    def task(x):
        try:
            _ = 1 / 0
        except ZeroDivisionError:
            raise ValueError("outer") from None

    with pytest.raises(ValueError, match="outer") as caught:
        parallel_map(task, [1], pool=pool)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert "ZeroDivisionError" not in "".join(traceback.format_exception(caught.value))


def test_groups_keep_their_structure(pool):
    def task(x):
        def part(error):
            try:
                raise error
            except Exception as caught:
                return caught

        inner = ExceptionGroup("inner", [part(KeyError("k")), part(TwoArguments(1, 2))])
        raise ExceptionGroup("outer", [part(ValueError("v")), inner])

    with pytest.raises(ExceptionGroup, match="outer") as caught:
        parallel_map(task, [1], pool=pool)

    value, inner = caught.value.exceptions
    assert type(value) is ValueError
    assert [type(e) for e in inner.exceptions] == [KeyError, TwoArguments]
    assert inner.exceptions[1].second == 2
    assert traceback.extract_tb(value.__traceback__)[-1].name == "part"
    matched, _ = caught.value.split(KeyError)
    assert isinstance(matched.exceptions[0].exceptions[0], KeyError)


def test_a_circle_of_contexts_arrives(pool):
    def task(x):
        first, second = ValueError("first"), KeyError("second")
        first.__context__ = second
        second.__context__ = first
        raise first

    with pytest.raises(ValueError, match="first") as caught:
        parallel_map(task, [1], pool=pool)
    assert type(caught.value.__context__) is KeyError


def recurse(n):
    return recurse(n + 1)


def test_a_recursion_error_arrives_with_its_frames(pool):
    with pytest.raises(RecursionError) as caught:
        parallel_map(recurse, [1], pool=pool)

    names = [frame.f_code.co_name for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    assert names.count("recurse") > 500
    assert "recurse" in "".join(traceback.format_exception(caught.value))


def test_a_chain_of_thousands_of_causes_arrives_or_is_cut_but_never_hangs(pool):
    def task(x):
        error = None
        for n in range(5000):
            new = ValueError(n)
            new.__cause__ = error
            error = new
        raise error

    with pytest.raises((ValueError, RemoteError)):
        parallel_map(task, [1], pool=pool)


def deep(x):
    return deeper(x)


def deeper(x):
    return 1 / x


def test_the_traceback_has_the_childs_files_lines_and_functions(pool):
    with pytest.raises(ZeroDivisionError) as caught:
        parallel_map(deep, [1, 0], pool=pool)

    frames = traceback.extract_tb(caught.value.__traceback__)
    names = [frame.name for frame in frames]
    assert names[-2:] == ["deep", "deeper"]
    assert frames[-1].filename == __file__
    assert frames[-1].line == "return 1 / x"
    assert frames[-1].lineno == deeper.__code__.co_firstlineno + 1
    assert not any("_worker" in frame.filename for frame in frames)
    text = "".join(traceback.format_exception(caught.value))
    assert "in deeper" in text
    assert "return 1 / x" in text


def test_the_traceback_begins_where_the_caller_called(pool):
    try:
        parallel_map(deep, [0], pool=pool)
    except ZeroDivisionError as error:
        frames = traceback.extract_tb(error.__traceback__)
    assert frames[0].name == "test_the_traceback_begins_where_the_caller_called"


def test_the_traceback_of_a_lambda_in_a_starmap_has_its_frame(pool):
    with pytest.raises(ZeroDivisionError) as caught:
        parallel_starmap(lambda a, b: a / b, [(1, 0)], pool=pool)
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert frames[-1].name == "<lambda>"
    assert not any("_worker" in frame.filename for frame in frames)


def test_there_is_one_note_that_names_item_worker_and_attempt(pool):
    with pytest.raises(ValueError, match="bad item") as caught:
        parallel_map(fail, ["some item"], pool=pool)

    [note] = caught.value.__notes__
    pid = re.search(r"pid (\d+)", note)
    assert re.match(
        r"parmap: item 0 \('some item'\), worker pool-\d+-\d+ \(pid \d+\), attempt 1", note
    )
    assert int(pid[1]) != os.getpid()


def test_the_note_shortens_long_items_and_escapes_control_characters(pool):
    class Sneaky:
        def __repr__(self):
            return "\x1b[2J" + "y" * 1000

    for item in ("x" * 10_000, Sneaky()):
        with pytest.raises(ValueError, match="bad item") as caught:
            parallel_map(fail, [item], pool=pool)
        [note] = caught.value.__notes__
        assert len(note) < 250
        assert "\x1b" not in note


def test_an_item_whose_repr_fails_does_no_harm(pool):
    class Broken:
        def __repr__(self):
            raise SystemExit(1)

    with pytest.raises(ZeroDivisionError) as caught:
        parallel_map(lambda x: 1 / 0, [Broken()], pool=pool)
    assert len(caught.value.__notes__) == 1


def test_a_failure_that_comes_back_twice_has_two_notes_only_for_two_calls():
    with pytest.raises(ValueError, match="again") as caught, Pool(1) as pool:
        parallel_map(
            lambda x: parallel_map(lambda y: _raise(ValueError("again")), [x]), [1], pool=pool
        )
    notes = [note for note in caught.value.__notes__ if note.startswith("parmap: item")]
    assert 1 <= len(notes) <= 2


def _raise(error):
    raise error


def test_failure_of_knows_the_item_and_nothing_of_other_errors(pool):
    with pytest.raises(ValueError, match="bad item") as caught:
        parallel_map(fail, [5, 6], chunksize=1, pool=pool)

    failure = failure_of(caught.value)
    assert failure.error is caught.value
    assert failure.index in (0, 1)
    assert failure.attempts == 1
    assert failure_of(ValueError()) is None
    with pytest.raises(ValueError, match="bad item"):
        failure.reraise()


def test_raise_mode_raises_the_lowest_index_that_has_arrived(pool, tmp_path):
    """Item 5 fails first in time, item 2 is told to have failed before the call ends."""
    with pytest.raises(ValueError, match="odd 1"):
        parallel_map(fail_if_odd, range(200), chunksize=200, pool=pool)


def test_of_two_failures_the_lower_is_raised_and_knows_of_the_other(pool, tmp_path):
    meeting = Diary(tmp_path / "meeting")

    def task(x):
        meeting.meet(2)
        raise ValueError(x)

    with pytest.raises(ValueError, match=r"0|1") as caught:
        parallel_map(task, [0, 1], chunksize=1, pool=pool)
    failure = failure_of(caught.value)
    assert failure.index == caught.value.args[0]
    assert [(o.index, o.error.args) for o in failure.others] in ([], [(1, (1,))])


def test_raise_mode_starts_nothing_more_and_waits_for_what_runs(pool, tmp_path):
    started, ended, gate = Diary(tmp_path / "s"), Diary(tmp_path / "e"), Gate(tmp_path / "gate")

    def task(x):
        started.write(x)
        if x == 0:
            started.wait_for(2)
            raise ValueError("first")
        try:
            gate.wait()
        finally:
            ended.write(x)

    with pytest.raises(ValueError, match="first"):
        parallel_map(task, range(1000), chunksize=1, max_workers=2)

    assert len(started.lines()) < 1000
    assert sorted(ended.numbers()) == sorted(set(started.numbers()) - {0})
    assert not gate.is_open


def test_return_mode_puts_failures_in_place(pool):
    results = parallel_map(fail_if_odd, range(6), on_error="return", pool=pool)

    assert results[::2] == [0, 2, 4]
    assert [(type(r), r.index, str(r.error)) for r in results[1::2]] == [
        (TaskFailure, i, f"odd {i}") for i in (1, 3, 5)
    ]


def test_return_mode_tells_a_returned_failure_from_its_own(pool):
    def inner(x):
        [failure] = parallel_map(fail, [x], on_error="return", max_workers=0)
        return failure

    results = parallel_map(inner, [1, 2], pool=pool)
    assert [type(r) for r in results] == [TaskFailure] * 2


def test_group_mode_runs_everything_then_raises_every_failure_in_order(pool, tmp_path):
    ran = Diary(tmp_path / "ran")

    def task(x):
        ran.write(x)
        return fail_if_odd(x)

    with pytest.raises(TaskErrorGroup) as caught:
        parallel_map(task, range(100), on_error="group", pool=pool)

    group = caught.value
    assert sorted(ran.numbers()) == list(range(100))
    assert [str(e) for e in group.exceptions] == [f"odd {i}" for i in range(1, 100, 2)]
    assert [failure_of(e).index for e in group.exceptions] == list(range(1, 100, 2))
    assert group.results[::2] == list(range(0, 100, 2))
    assert not isinstance(group, ParmapError)
    assert pickle.loads(pickle.dumps(group)).results[0] == 0


def test_except_star_takes_what_it_names_and_the_rest_keeps_the_results(pool):
    def task(x):
        if x == 1:
            raise ValueError(x)
        if x == 2:
            raise KeyError(x)
        return x

    caught = []
    try:
        try:
            parallel_map(task, range(4), on_error="group", pool=pool)
        except* ValueError as group:
            caught.append(group)
    except TaskErrorGroup as rest:
        caught.append(rest)

    assert [[type(e) for e in group.exceptions] for group in caught] == [[ValueError], [KeyError]]
    assert all(group.results[3] == 3 for group in caught)


def test_a_group_without_failures_is_no_group(pool):
    assert parallel_map(abs, [-1], on_error="group", pool=pool) == [1]


@pytest.mark.parametrize("how", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_exits_are_their_items_failures_and_end_no_worker(pool, how):
    pids = set(pool.map(lambda _: os.getpid(), range(50)))

    def task(x):
        if x == 3:
            raise how("mine")
        return x

    results = parallel_map(task, range(6), on_error="return", pool=pool)
    assert isinstance(results[3].error, how)
    with pytest.raises(how):
        parallel_map(task, range(6), pool=pool)
    assert set(pool.map(lambda _: os.getpid(), range(50))) & pids


def test_stop_iteration_never_makes_a_map_shorter(pool):
    def task(x):
        if x == 2:
            raise StopIteration("value")
        return x

    for call in (parallel_map, lambda *a, **o: list(parallel_imap(*a, **o))):
        with pytest.raises(RuntimeError, match="StopIteration") as caught:
            call(task, range(5), pool=pool)
        assert type(caught.value.__cause__) is StopIteration
        assert caught.value.__cause__.value == "value"
    results = parallel_map(task, range(5), on_error="return", pool=pool)
    assert len(results) == 5
    results = list(parallel_imap(task, range(5), on_error="return", pool=pool))
    assert len(results) == 5
    assert isinstance(results[2].error, RuntimeError)


def test_next_on_an_empty_iterator_in_a_task_is_no_end_of_the_map(pool):
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(parallel_imap(lambda x: next(iter(())), range(3), pool=pool))


def test_an_ordered_lazy_map_raises_in_place_and_is_then_exhausted(pool, tmp_path):
    gate = Gate(tmp_path / "gate")

    def task(x):
        if x == 3:
            raise ValueError("in place")
        if x == 2:
            gate.wait()
        return x

    results = parallel_imap(task, range(1000), chunksize=1, pool=pool)
    taken = [next(results), next(results)]
    gate.open()
    taken.append(next(results))
    with pytest.raises(ValueError, match="in place"):
        next(results)

    assert taken == [0, 1, 2]
    assert list(results) == []
    with pytest.raises(StopIteration):
        next(results)


def test_an_unordered_lazy_map_raises_when_it_sees_the_failure_and_is_then_exhausted(tmp_path):
    gate = Gate(tmp_path / "gate")

    def task(x):
        if x == 0:
            gate.wait()
        if x == 1:
            raise ValueError("seen")
        return x

    results = parallel_imap(task, range(2), ordered=False, chunksize=1, max_workers=2)
    with pytest.raises(ValueError, match="seen"):
        next(results)
    assert list(results) == []


@pytest.mark.parametrize("ordered", [True, False])
def test_a_lazy_map_in_group_mode_gives_the_values_then_raises_the_group(pool, ordered):
    results = parallel_imap(fail_if_odd, range(10), ordered=ordered, on_error="group", pool=pool)
    taken = []
    with pytest.raises(TaskErrorGroup) as caught:
        for result in results:
            taken.append(result)  # noqa: PERF402

    assert sorted(taken) == [0, 2, 4, 6, 8]
    assert len(caught.value.exceptions) == 5
    assert len(caught.value.results) == 10
    assert list(results) == []


def test_what_was_taken_before_the_first_failure_is_among_the_results_of_the_group():
    results = parallel_imap(fail_if_odd, [0, 2, 1], on_error="group", max_workers=0)

    assert [next(results), next(results)] == [0, 2]
    with pytest.raises(TaskErrorGroup) as caught:
        next(results)
    assert caught.value.results[:2] == [0, 2]
    assert len(caught.value.results) == 3


@pytest.mark.parametrize("ordered", [True, False])
def test_a_lazy_map_in_return_mode_gives_failures_as_results(pool, ordered):
    results = list(
        parallel_imap(fail_if_odd, range(10), ordered=ordered, on_error="return", pool=pool)
    )
    assert sorted(r.index for r in results if isinstance(r, TaskFailure)) == [1, 3, 5, 7, 9]
    assert sorted(r for r in results if not isinstance(r, TaskFailure)) == [0, 2, 4, 6, 8]


def test_an_error_of_a_submitted_call_is_the_users_own(pool):
    future = pool.submit(deep, 0)
    error = future.exception(LIMIT)
    assert type(error) is ZeroDivisionError
    assert [f.name for f in traceback.extract_tb(error.__traceback__)] == ["deep", "deeper"]


def test_an_exception_as_a_result_is_a_value(pool):
    [result] = parallel_map(lambda x: ValueError(x), [1], pool=pool)
    assert type(result) is ValueError
    assert result.args == (1,)
    assert failure_of(result) is None


def test_an_exception_with_its_traceback_may_be_a_result(pool):
    def task(x):
        try:
            return 1 / x
        except ZeroDivisionError as error:
            return error

    [result] = parallel_map(task, [0], pool=pool)
    assert type(result) is ZeroDivisionError


def test_a_raised_error_survives_a_pickle_round_trip_with_its_failure(pool):
    with pytest.raises(TwoArguments) as caught:
        parallel_map(raise_it, [SHAPES["two arguments"][0]], pool=pool)
    [failure] = parallel_map(fail, [1], on_error="return", pool=pool)
    copy = pickle.loads(pickle.dumps(failure))
    assert (copy.index, str(copy.error), copy.attempts) == (0, "bad item 1", 1)
    assert failure_of(copy.error) is not None
    assert caught.value.first == 1


def test_the_debugger_walks_the_frames_of_the_child(tmp_path):
    (tmp_path / "script.py").write_text(
        program("""
            import pdb, sys
            from parmap import parallel_map
            def outer(x):
                return inner(x)
            def inner(x):
                return 1 / x
            try:
                parallel_map(outer, [1, 0], max_workers=1)
            except ZeroDivisionError as error:
                pdb.post_mortem(error.__traceback__)
            print("alive")
        """)
    )
    commands = "where\nlist\nup\nlist\nup\nlonglist\np __name__\ndown\nargs\nlocals()\nquit\n"
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment(), input=commands,
        capture_output=True, text=True, timeout=LIMIT + 10, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "inner()" in done.stdout
    assert "outer()" in done.stdout
    assert "->         return 1 / x" in done.stdout or "->" in done.stdout
    assert "return inner(x)" in done.stdout
    assert done.stdout.rstrip().endswith("alive")


def test_an_uncaught_error_prints_the_childs_lines_the_note_and_exits_with_1(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(
        program("""
            from parmap import parallel_map
            def bad(x):
                return [1][x]
            parallel_map(bad, range(5), max_workers=1)
        """)
    )
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, env=environment(), check=False,
        capture_output=True, text=True, timeout=LIMIT + 10,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert "in bad\n    return [1][x]" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("parmap: item 1 (1), worker parmap-")


@pytest.mark.parametrize(("status", "code"), [("3", 3), ("", 0), ("'text'", 1)])
def test_sys_exit_in_a_task_exits_the_program_as_in_the_loop(tmp_path, status, code):
    path = tmp_path / "script.py"
    path.write_text(
        program(f"""
            import sys
            from parmap import parallel_map
            parallel_map(lambda x: sys.exit({status}), [1], max_workers=1)
        """)
    )
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, env=environment(), check=False,
        capture_output=True, text=True, timeout=LIMIT + 10,
    )  # fmt: skip
    assert done.returncode == code
    assert "Traceback" not in done.stderr
