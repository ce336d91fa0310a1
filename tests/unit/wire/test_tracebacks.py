"""A rebuilt traceback prints and walks like the original, and keeps nothing alive."""

# mypy: no-check-untyped-defs
# mypy: disable-error-code="override, misc, arg-type"
# (Exceptions are given odd parts on purpose.)

from __future__ import annotations

import gc
import io
import linecache
import pdb  # noqa: T100 - it is what is tested
import pickle
import re
import sys
import traceback
import weakref

import pytest

from parmap._wire import tracebacks
from parmap._wire.tracebacks import flatten_traceback, rebuild_traceback, reduce_traceback


def inner(x):
    return (
        x +
        x / 0
    )  # fmt: skip


def middle(x):
    return [inner(y) for y in (x,)]


class Thing:
    def method(self, x):
        return (lambda: middle(x))()  # noqa: PLC3002


def caught(fn, *args):
    try:
        fn(*args)
    except BaseException as error:
        return error
    raise AssertionError("it did not raise")


def steps(tb):
    while tb is not None:
        yield tb
        tb = tb.tb_next


def test_the_printed_text_is_the_same_marks_under_the_columns_included():
    error = caught(Thing().method, 3)
    back = rebuild_traceback(flatten_traceback(error.__traceback__))

    printed = "".join(traceback.format_exception(type(error), error, back))
    assert printed == "".join(traceback.format_exception(error))
    assert "~~^~~" in printed


def test_frames_have_names_files_lines_and_modules_but_no_locals():
    error = caught(Thing().method, 3)
    back = rebuild_traceback(flatten_traceback(error.__traceback__))

    for was, now in zip(steps(error.__traceback__), steps(back), strict=True):
        frame, code = now.tb_frame, now.tb_frame.f_code
        for name in ("co_filename", "co_name", "co_qualname", "co_firstlineno"):
            assert getattr(code, name) == getattr(was.tb_frame.f_code, name)
        assert now.tb_lineno == frame.f_lineno == was.tb_lineno
        assert frame.f_globals["__name__"] == __name__
        assert frame.f_globals["__file__"] == code.co_filename
        assert dict(frame.f_locals) == {}
        assert frame.f_back is None


def test_a_rebuilt_traceback_can_be_sent_on():
    records = flatten_traceback(caught(Thing().method, 3).__traceback__)
    assert flatten_traceback(rebuild_traceback(records)) == records


def test_no_traceback_stays_none():
    assert flatten_traceback(None) == []
    assert rebuild_traceback([]) is None


def test_the_outermost_frames_can_be_left_out():
    tb = caught(Thing().method, 3).__traceback__
    names = [record[1] for record in flatten_traceback(tb)]
    assert [record[1] for record in flatten_traceback(tb, 2)] == names[2:]
    assert flatten_traceback(tb, 100) == []


def runaway(n):
    return runaway(n + 1)


def test_a_recursion_error_keeps_every_frame():
    error = caught(runaway, 0)
    back = rebuild_traceback(flatten_traceback(error.__traceback__))
    assert len([*steps(back)]) == len([*steps(error.__traceback__)]) > 500
    assert traceback.format_exception(type(error), error, back) == traceback.format_exception(error)


def test_a_monstrous_traceback_keeps_its_ends_and_says_so(monkeypatch):
    monkeypatch.setattr(tracebacks, "MAX_FRAMES", 100)
    records = flatten_traceback(caught(runaway, 0).__traceback__)
    total = len([*steps(caught(runaway, 0).__traceback__)])
    assert len(records) == 101
    assert records[50][1] == f"({total - 100} frames left out)"
    assert f"({total - 100} frames left out)" in "".join(
        traceback.format_tb(rebuild_traceback(records))
    )


@pytest.fixture
def _tracer_is_kept():
    """A debugger that ends takes the tracer along, be it its own or that of `make coverage`."""
    before = sys.gettrace()
    yield
    sys.settrace(before)


@pytest.mark.usefixtures("_tracer_is_kept")
def test_post_mortem_walks_the_frames():
    error = caught(Thing().method, 3)
    back = rebuild_traceback(flatten_traceback(error.__traceback__))
    out = io.StringIO()
    commands = "where\nlist\nup\nup\np __name__\nargs\nquit\n"
    debugger = pdb.Pdb(stdin=io.StringIO(commands), stdout=out, nosigint=True, readrc=False)
    debugger.use_rawinput = False
    debugger.reset()
    debugger.interaction(None, back)

    text = out.getvalue()
    assert re.search(r"test_tracebacks\.py\(\d+\)inner\(\)", text)
    assert re.search(r"test_tracebacks\.py\(\d+\)middle\(\)", text)
    assert "x / 0" in text
    assert repr(__name__) in text


def test_the_lines_a_debugger_computes_from_the_instruction_are_right():
    import dis

    back = rebuild_traceback(flatten_traceback(caught(Thing().method, 3).__traceback__))
    for step in steps(back):
        lines = [line for at, line in dis.findlinestarts(step.tb_frame.f_code) if at <= 0]
        assert lines == [step.tb_lineno]


def test_nothing_of_the_caller_is_kept_alive():
    class Big:
        pass

    def rebuild():
        big = Big()
        rebuild_traceback(flatten_traceback(caught(inner, 1).__traceback__))
        return weakref.ref(big)

    tracebacks._frames.clear()
    gone = rebuild()
    gc.collect()
    assert gone() is None


def test_the_caches_are_bounded(monkeypatch):
    monkeypatch.setattr(tracebacks, "_MAX_CACHED", 10)
    for number in range(50):
        space = {"__name__": "made_up"}
        exec(compile(f"def f():\n{' ' * 4}1 / 0\n", f"<file {number}>", "exec"), space)
        rebuild_traceback(flatten_traceback(caught(space["f"]).__traceback__))
        assert len(tracebacks._records) <= 10 + 1
        assert len(tracebacks._frames) <= 10 + 1


@pytest.mark.parametrize("first", [1, 7, 100_000])
def test_source_that_only_linecache_knows_is_shown(first):
    file = f"<notebook cell {first}>"
    source = "\n" * (first - 1) + "def f():\n    raise ValueError('here')  # the line\n"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    space = {"__name__": "__main__"}
    exec(compile(source, file, "exec"), space)
    error = caught(space["f"])
    back = rebuild_traceback(flatten_traceback(error.__traceback__))
    assert "# the line" in traceback.format_tb(back)[-1]


@pytest.mark.parametrize("name", [None, 7, object(), type("S", (str,), {})("sub")])
def test_globals_may_have_any_name(name):
    space = {"__name__": name}
    exec("def f(): 1 / 0", space)
    back = rebuild_traceback(flatten_traceback(caught(space["f"]).__traceback__))
    assert [step.tb_frame.f_code.co_name for step in steps(back)] == ["caught", "f"]
    assert back.tb_next.tb_frame.f_globals["__name__"] == "?"


def test_a_line_that_somebody_else_put_into_the_traceback_is_kept():
    """Template engines do that; the line table knows nothing of it."""
    tb = caught(inner, 1).__traceback__
    fake = type(tb)(None, tb.tb_frame, tb.tb_lasti, 4242)
    back = rebuild_traceback(flatten_traceback(fake))
    assert back.tb_lineno == back.tb_frame.f_lineno == 4242


def test_a_traceback_inside_data_is_reduced_to_plain_data():
    tb = caught(Thing().method, 3).__traceback__
    rebuild, args = reduce_traceback(tb)
    back = rebuild(*pickle.loads(pickle.dumps(args)))
    assert traceback.format_tb(back) == traceback.format_tb(tb)


def test_wide_columns_and_long_expressions_survive():
    """Numbers above 63 take several bytes in a line table."""
    expression = " + ".join(["1"] * 40) + " + (\n" * 70 + "1 / 0" + ")" * 70
    space = {"__name__": "made_up"}
    exec(compile(f"def f():\n    return {expression}\n", "<wide>", "exec"), space)
    tb = caught(space["f"]).__traceback__
    back = rebuild_traceback(flatten_traceback(tb))
    for was, now in zip(steps(tb), steps(back), strict=True):
        expected = [*was.tb_frame.f_code.co_positions()][was.tb_lasti // 2]
        assert [*now.tb_frame.f_code.co_positions()][now.tb_lasti // 2] == expected


@pytest.mark.skipif(sys.version_info < (3, 12), reason="3.12 made sys.monitoring")
def test_making_frames_is_not_seen_by_tracers():
    seen = []
    records = flatten_traceback(caught(inner, 1).__traceback__)
    tracebacks._frames.clear()
    before = sys.gettrace()
    sys.settrace(lambda frame, event, _: seen.append(frame.f_code.co_name))
    try:
        rebuild_traceback(records)
    finally:
        sys.settrace(before)
    assert "inner" not in seen
