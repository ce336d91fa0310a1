"""No guard, however the program is run, and everything of `__main__` travels."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import textwrap

import pytest

from support.scripts import (
    LIMIT,
    WATCHDOG,
    environment,
    output_of,
    program,
    run_python,
    run_script,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX only")

PROGRAM = """
from parmap import Pool, parallel_imap, parallel_map, parallel_starmap

class Point:
    def __init__(self, x):
        self.x = x

def square(x):
    return x * x

def make(x):
    return Point(square(x))

points = parallel_map(make, range(5), max_workers=2)
print([p.x for p in points], {type(p) is Point for p in points})
print(list(parallel_imap(lambda p: p.x, points, max_workers=2)))
"""
PRINTED = "[0, 1, 4, 9, 16] {True}\n[0, 1, 4, 9, 16]\n"


def check(done, printed=PRINTED):
    assert (done.returncode, done.stderr, done.stdout) == (0, "", printed)


def test_a_script_needs_no_guard(tmp_path):
    check(run_script(PROGRAM, tmp_path))


def test_a_script_is_run_once_only(tmp_path):
    check(run_script("print('here')\n" + PROGRAM, tmp_path), "here\n" + PRINTED)


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_no_start_method_needs_a_guard(tmp_path, method):
    source = f"""
        from parmap import Pool, parallel_map
        print("here", __name__)
        class C: pass
        with Pool(2, start_method={method!r}) as pool:
            print({{type(c) is C for c in parallel_map(lambda x: C(), range(4), pool=pool)}})
    """
    check(run_script(source, tmp_path), "here __main__\n{True}\n")


def test_a_script_on_stdin_needs_no_guard(tmp_path):
    check(run_python(["-"], folder=tmp_path, stdin=program(PROGRAM)))


def test_a_command_line_needs_no_guard(tmp_path):
    check(run_python(["-c", program(PROGRAM)], folder=tmp_path))


def test_a_module_of_a_package_needs_no_guard(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "helper.py").write_text("def thrice(x):\n    return 3 * x\n")
    source = "from . import helper\n" + PROGRAM + "print(parallel_map(helper.thrice, [1, 2]))\n"
    (package / "module.py").write_text(program(source))

    check(run_python(["-m", "package.module"], folder=tmp_path), PRINTED + "[3, 6]\n")


def test_a_package_that_is_run_needs_no_guard(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(program(PROGRAM))

    check(run_python(["-m", "package"], folder=tmp_path))


@pytest.mark.parametrize(
    "namespace",
    ["{}", "{'__name__': '__main__'}", "{'__name__': 'elsewhere'}", "{'__name__': 'os'}"],
)
def test_a_program_in_exec_needs_no_guard(tmp_path, namespace):
    source = f"exec({PROGRAM!r}, {namespace})"
    check(run_script(source, tmp_path))


def test_a_program_run_by_runpy_needs_no_guard(tmp_path):
    (tmp_path / "inner.py").write_text(PROGRAM)
    check(run_script("import runpy; runpy.run_path('inner.py', run_name='__main__')", tmp_path))


def test_an_imported_module_may_call_parmap_while_it_is_imported(tmp_path):
    (tmp_path / "inner.py").write_text(PROGRAM)
    check(run_script("import inner", tmp_path))


def test_a_notebook_needs_no_guard(tmp_path):
    """As IPython does it: cells run in the namespace of a `__main__` that has no file."""
    source = f"""
        import sys, types
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        cells = [
            {PROGRAM!r},
            "def square(x): return -x * x",
            "print([p.x for p in parallel_map(make, range(3), max_workers=2)])",
            "class Point:\\n    x = 'new'\\n    def __init__(self, x): pass",
            "new = parallel_map(make, range(2), max_workers=2)",
            "print([type(p) is Point for p in new], [p.x for p in new])",
        ]
        for number, cell in enumerate(cells):
            exec(compile(cell, f"<ipython-input-{{number}}>", "exec"), main.__dict__)
    """
    check(run_script(source, tmp_path), PRINTED + "[0, -1, -4]\n[True, True] ['new', 'new']\n")


def test_a_prompt_needs_no_guard(tmp_path):
    """`python -i` on a terminal, definitions typed line by line."""
    typed = [
        WATCHDOG.strip(),
        "from parmap import parallel_map",
        "def square(x):",
        "    return x * x",
        "",
        "class C: pass",
        "",
        "parallel_map(square, range(4), max_workers=2)",
        "[type(c) is C for c in parallel_map(lambda x: C(), [1], max_workers=2)]",
        "def square(x):",
        "    return -x",
        "",
        "parallel_map(square, range(4), max_workers=2)",
        "exit()",
    ]
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-i", "-q"], cwd=tmp_path, env=environment(PYTHON_BASIC_REPL="1", TERM="dumb"),
        stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
    )  # fmt: skip
    os.close(follower)
    os.write(leader, "".join(line + "\n" for line in typed).encode())
    shown = b""
    try:
        while piece := os.read(leader, 4096):
            shown += piece
    except OSError:
        pass  # the other end is closed
    os.close(leader)

    assert process.wait(LIMIT) == 0
    text = shown.decode().replace("\r\n", "\n")
    assert "\n[0, 1, 4, 9]\n" in text
    assert "\n[True]\n" in text
    assert "\n[0, -1, -2, -3]\n" in text
    assert "Traceback" not in text


CASES = {
    "lambda": "print(parallel_map(lambda x: x + 1, [1, 2]))",
    "closure": """
        def outer(n):
            def inner(x):
                return x + n
            return inner
        print(parallel_map(outer(1), [1, 2]))
    """,
    "closure over None": """
        def outer(n):
            return lambda x: (x, n)
        print([a for a, b in parallel_map(outer(None), [2, 3]) if b is None])
    """,
    "closure over a closure": """
        def outer(n):
            def middle():
                return n
            def inner(x):
                return x + middle()
            return inner
        print(parallel_map(outer(1), [1, 2]))
    """,
    "recursive function": """
        def fact(n):
            return 1 if n < 2 else n * fact(n - 1)
        print(parallel_map(fact, [2, 3]) == [2, 6] and [2, 3])
    """,
    "recursive closure": """
        def outer():
            def fact(n):
                return 1 if n < 2 else n * fact(n - 1)
            return fact
        print(parallel_map(outer(), [2, 3]) == [2, 6] and [2, 3])
    """,
    "mutually recursive functions": """
        def even(n):
            return n == 0 or odd(n - 1)
        def odd(n):
            return n != 0 and even(n - 1)
        print(parallel_map(even, [2, 3]) == [True, False] and [2, 3])
    """,
    "partial": """
        from functools import partial
        def add(a, b, c=0):
            return a + b + c
        print(parallel_map(partial(add, 1), [1, 2]))
    """,
    "partial with keywords": """
        from functools import partial
        def add(a, b=0, *, c=0):
            return a + b + c
        print(parallel_map(partial(partial(add, b=-1), c=2), [1, 2]))
    """,
    "bound method": """
        class Adder:
            def __init__(self, n):
                self.n = n
            def add(self, x):
                return x + self.n
        print(parallel_map(Adder(1).add, [1, 2]))
    """,
    "class and static methods": """
        class A:
            one = 1
            @classmethod
            def f(cls, x):
                return x + cls.one
            @staticmethod
            def g(x):
                return x + 1
        assert parallel_map(A.f, [1, 2]) == parallel_map(A.g, [1, 2]) == parallel_map(A().f, [1, 2])
        print([2, 3])
    """,
    "callable instance": """
        class Adder:
            def __call__(self, x):
                return x + 1
        print(parallel_map(Adder(), [1, 2]))
    """,
    "method with super": """
        class A:
            def f(self, x):
                return x
        class B(A):
            def f(self, x):
                return super().f(x) + 1
        print(parallel_map(B().f, [1, 2]))
    """,
    "class as function": """
        class P:
            def __init__(self, x):
                self.x = x + 1
        results = parallel_map(P, [1, 2])
        assert all(type(p) is P for p in results)
        print([p.x for p in results])
    """,
    "instances as items": """
        class P:
            def __init__(self, x):
                self.x = x
        items = [P(2), P(3)]
        results = parallel_map(lambda p: (isinstance(p, P), p), items)
        assert all(ok and type(p) is P for ok, p in results)
        print([p.x for _, p in results])
    """,
    "dataclass": """
        import dataclasses
        @dataclasses.dataclass(frozen=True, slots=True, order=True)
        class D:
            x: int
        results = parallel_map(lambda x: D(x), [2, 3])
        assert results == [D(2), D(3)] and {type(d) is D for d in results} == {True}
        print([d.x for d in results])
    """,
    "dataclass with a default list": """
        import dataclasses
        @dataclasses.dataclass
        class D:
            x: int = 2
            ys: list = dataclasses.field(default_factory=list)
        results = parallel_map(lambda d: dataclasses.replace(d, ys=[d.x]), [D(), D(3)])
        assert results == [D(2, [2]), D(3, [3])]
        print([d.x for d in results])
    """,
    "enum": """
        import enum
        class Color(enum.Enum):
            RED = 2
            GREEN = 3
            def opposite(self):
                return Color.GREEN if self is Color.RED else Color.RED
        results = parallel_map(lambda c: c.opposite(), [Color.GREEN, Color.RED])
        assert results[0] is Color.RED and results[1] is Color.GREEN
        assert parallel_map(Color, [2, 3]) == [Color.RED, Color.GREEN]
        print([c.value for c in results])
    """,
    "namedtuple": """
        import collections, typing
        N = collections.namedtuple("N", "x y")
        class T(typing.NamedTuple):
            x: int
            y: int = 1
        assert [type(n) for n in parallel_map(lambda x: N(x, 0), [1])] == [N]
        results = parallel_map(T, [2, 3])
        assert all(type(t) is T for t in results)
        print([t.x for t in results])
    """,
    "lru_cache": """
        import functools
        @functools.lru_cache(maxsize=None)
        def fib(n):
            return n if n < 2 else fib(n - 1) + fib(n - 2)
        assert parallel_map(fib, [80]) == [23416728348467685]
        print(parallel_map(lambda x: fib(x), [3, 4]))
    """,
    "cached_property": """
        import functools
        class C:
            def __init__(self, x):
                self.x = x
            @functools.cached_property
            def y(self):
                return self.x + 1
        print([c.y for c in parallel_map(lambda c: (c.y, c)[1], [C(1), C(2)])])
    """,
    "singledispatch": """
        import functools
        @functools.singledispatch
        def show(x):
            return "object"
        @show.register
        def _(x: int):
            return x + 1
        @show.register(str)
        def _(x):
            return len(x) + show(len(x))
        assert parallel_map(show, [1, "a", 1.5]) == [2, 3, "object"]
        print(parallel_map(show, [1, "a"]))
    """,
    "generic class": """
        import typing
        T = typing.TypeVar("T")
        class Box(typing.Generic[T]):
            def __init__(self, x: T):
                self.x = x
        class IntBox(Box[int]):
            pass
        results = parallel_map(lambda x: IntBox(x), [2, 3])
        assert all(type(b) is IntBox and isinstance(b, Box) for b in results)
        print([b.x for b in results])
    """,
    "abstract class": """
        import abc
        class A(abc.ABC):
            @abc.abstractmethod
            def f(self): ...
        class B(A):
            def f(self, x):
                return x + 1
        print(parallel_map(B().f, [1, 2]))
    """,
    "nested class": """
        class Outer:
            class Inner:
                def __init__(self, x):
                    self.x = x
        results = parallel_map(Outer.Inner, [2, 3])
        assert all(type(i) is Outer.Inner for i in results)
        print([i.x for i in results])
    """,
    "local class": """
        def make():
            class Local:
                def __init__(self, x):
                    self.x = x
            return Local
        Local = make()
        results = parallel_map(Local, [2, 3])
        assert all(type(i) is Local for i in results)
        print([i.x for i in results])
    """,
    "exception class": """
        class MyError(Exception):
            def __init__(self, a, b):
                super().__init__(f"{a}{b}")
                self.a = a
        def f(x):
            raise MyError(x, 1)
        try:
            parallel_map(f, [1])
        except MyError as error:
            assert type(error) is MyError and error.a == 1 and str(error) == "11"
        print([2, 3])
    """,
    "globals": """
        offset = 0
        table = {}
        def f(x):
            return x + offset + table["one"]
        offset, table["one"] = -1, 2
        print(parallel_map(f, [1, 2]))
    """,
    "imported modules as globals": """
        import math, os.path as p, collections.abc
        def f(x):
            assert isinstance([], collections.abc.Sequence) and p.basename("a/b") == "b"
            return int(math.sqrt(x * x)) + 1
        print(parallel_map(f, [1, 2]))
    """,
    "default arguments and annotations": """
        def f(x: "int", y: int = 1, *, z=[0]) -> int:
            return x + y + z[0]
        f.attribute = 5
        def g(x):
            return f(x) + f.attribute - 5
        print(parallel_map(g, [1, 2]))
    """,
    "decorated function": """
        import functools
        def twice(fn):
            @functools.wraps(fn)
            def wrapper(*args):
                return fn(*args)
            return wrapper
        @twice
        def f(x):
            return x + 1
        print(parallel_map(f, [1, 2]))
    """,
    "generator function inside": """
        def numbers(n):
            yield from range(n)
        print(parallel_map(lambda x: len(list(numbers(x + 1))), [1, 2]))
    """,
    "coroutine inside": """
        import asyncio
        async def later(x):
            await asyncio.sleep(0)
            return x + 1
        print(parallel_map(lambda x: asyncio.run(later(x)), [1, 2]))
    """,
    "import inside": """
        def f(x):
            import decimal
            return int(decimal.Decimal(x) + 1)
        print(parallel_map(f, [1, 2]))
    """,
    "the program's own name": """
        print([2, 3] if parallel_map(lambda x: __name__, [1]) == ["__main__"] else "wrong")
    """,
    "the program's arguments": """
        import sys
        print([2, 3] if parallel_map(lambda x: sys.argv, [1]) == [sys.argv] else "wrong")
    """,
    "a lock that nobody uses": """
        import threading
        lock = threading.Lock()
        def g():
            with lock:
                pass
        print(parallel_map(lambda x: x + 1, [1, 2]))
    """,
    "Pool.submit and Pool.map": """
        from parmap import Pool
        class C:
            def __init__(self, x):
                self.x = x
        with Pool(2) as pool:
            assert type(pool.submit(C, 1).result()) is C
            print([c.x for c in pool.map(C, [2, 3])])
    """,
}


# Each case in a `__main__` of its own, one after the other in one process: starting one for each
# would take a minute.
RUN_CASES = """
import json, sys, traceback, types
import io, contextlib

printed = {}
for name, source in json.load(open("cases.json")).items():
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            exec(compile("from parmap import parallel_map\\n" + source, name, "exec"), main.__dict__)
        except BaseException:
            traceback.print_exc(file=out)
    printed[name] = out.getvalue()
print(json.dumps(printed))
"""


@pytest.fixture(scope="module")
def printed_by_case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    cases = {name: textwrap.dedent(case) for name, case in CASES.items()}
    (folder / "cases.json").write_text(json.dumps(cases))
    return json.loads(output_of(RUN_CASES, folder, PARMAP_MAX_WORKERS="2"))


@pytest.mark.parametrize("case", CASES)
def test_what_a_main_program_defines_travels(printed_by_case, case):
    assert printed_by_case[case] == "[2, 3]\n", printed_by_case[case]


def test_a_global_that_cannot_travel_is_named_by_its_path(tmp_path):
    source = """
        import threading
        from parmap import parallel_map, SerializationError
        lock = threading.Lock()
        table = {"deep": [1, lock]}
        def f(x):
            with lock: return x
        def g(x):
            return table
        class C:
            lock = lock
            def m(self, x): return self.lock
        for fn in (f, g, lambda x: f(x), C().m):
            try:
                parallel_map(fn, [1], max_workers=1)
            except SerializationError as error:
                print(error.direction, error.path, type(error.__cause__).__name__)
    """
    lines = output_of(source, tmp_path).splitlines()
    assert lines[:3] == [
        "to worker fn.__globals__['lock'] TypeError",
        "to worker fn.__globals__['table']['deep'][1] TypeError",
        "to worker fn.__globals__['f'].__globals__['lock'] TypeError",
    ]
    assert "lock" in lines[3]


def test_a_redefined_function_or_class_is_used_in_its_new_form(tmp_path):
    source = """
        from parmap import parallel_map
        def f(x): return helper(x)
        def helper(x): return "old"
        class C: version = 1
        def make(x): return C()
        print(parallel_map(f, [1], max_workers=1))
        [before] = parallel_map(make, [1], max_workers=1)
        Old = C
        def helper(x): return "new"
        class C: version = 2
        print(parallel_map(f, [1], max_workers=1))
        [after] = parallel_map(make, [1], max_workers=1)
        print(type(before) is Old, type(after) is C, before.version, after.version)
        [same] = parallel_map(lambda x: x, [before], max_workers=1)
        print(type(same) is Old)
        C.version = 3
        print(parallel_map(lambda x: C.version, [1], max_workers=1))
    """
    assert output_of(source, tmp_path) == "['old']\n['new']\nTrue True 1 2\nTrue\n[3]\n"


def test_what_an_item_writes_to_a_global_never_reaches_the_next_call(tmp_path):
    source = """
        from parmap import parallel_map, Pool
        count = 0
        log = []
        class C: hits = 0
        def f(x):
            global count
            count += 1
            log.append(x)
            C.hits += 1
            return count
        def g(x):
            return count, log, C.hits
        parallel_map(f, range(5), max_workers=1)
        print(parallel_map(g, [1], max_workers=1), count, log, C.hits)
        print(parallel_map(f, [1], max_workers=1))
        with Pool(1) as pool:
            print([pool.submit(f, 1).result() for _ in range(3)], pool.submit(g, 1).result())
    """
    assert output_of(source, tmp_path) == ("[(0, [], 0)] 0 [] 0\n[1]\n[1, 1, 1] (0, [], 0)\n")


def test_an_initializer_may_set_a_global_of_main_that_items_read(tmp_path):
    source = """
        from parmap import parallel_map, Pool
        table = None
        def prepare(n):
            global table
            table = list(range(n))
        def look(x):
            return table[x]
        with Pool(2, initializer=prepare, initargs=(10,)) as pool:
            print(parallel_map(look, range(10), pool=pool))
            print(pool.submit(look, 3).result())
        print(table)
    """
    assert output_of(source, tmp_path) == "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n3\nNone\n"


def test_a_module_found_through_a_later_path_entry_works(tmp_path):
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "lately.py").write_text("def f(x):\n    return x + 1\nclass C: pass\n")
    source = """
        import os, sys
        from parmap import parallel_map
        print(parallel_map(abs, [-1], max_workers=1))  # the worker is warm already
        sys.path.append(os.path.abspath("late"))
        import lately
        print(parallel_map(lately.f, [1, 2], max_workers=1))
        [c] = parallel_map(lambda x: lately.C(), [1], max_workers=1)
        print(type(c) is lately.C)
    """
    assert output_of(source, tmp_path) == "[1]\n[2, 3]\nTrue\n"


def test_a_module_that_no_path_leads_to_goes_by_value(tmp_path):
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "plugin.py").write_text(
        "class C: pass\ndef f(x):\n    return C(), x + ONE\nONE = 1\n"
    )
    source = """
        import importlib.util, sys, types
        from parmap import parallel_map
        spec = importlib.util.spec_from_file_location("plugin_name", "hidden/plugin.py")
        plugin = importlib.util.module_from_spec(spec)
        sys.modules["plugin_name"] = plugin
        spec.loader.exec_module(plugin)
        [(c, n)] = parallel_map(plugin.f, [1], max_workers=1)
        print(type(c) is plugin.C, n)
        made = types.ModuleType("made")
        exec("def g(x): return x + 2", made.__dict__)
        sys.modules["made"] = made
        print(parallel_map(made.g, [1], max_workers=1))
    """
    assert output_of(source, tmp_path) == "True 2\n[3]\n"


def test_a_file_of_the_current_folder_does_not_shadow_the_standard_library(tmp_path):
    (tmp_path / "selectors.py").write_text("raise ImportError('wrong file')\n")
    (tmp_path / "struct.py").write_text("raise ImportError('wrong file')\n")
    source = "from parmap import parallel_map; print(parallel_map(abs, [-1], max_workers=1))"
    check(run_python(["-P", "-c", program(source)], folder=tmp_path), "[1]\n")


def test_optimised_and_isolated_pythons_start_workers_of_their_kind(tmp_path):
    source = f"""
import sys; sys.path.insert(0, {environment()["PYTHONPATH"].split(os.pathsep)[0]!r})
from parmap import parallel_map
def flags(_): return sys.flags.optimize, sys.flags.utf8_mode, __debug__
print(parallel_map(flags, [1], max_workers=1))
"""
    check(
        run_python(["-O", "-X", "utf8", "-c", program(source)], folder=tmp_path),
        "[(1, 1, False)]\n",
    )
    done = run_python(["-I", "-c", program(source)], folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_parent_without_stdio_does_no_harm(tmp_path):
    source = """
import os
from parmap import parallel_map
results = parallel_map(lambda x: x + 1, range(10), max_workers=2)
with open("results", "w") as file:
    file.write(repr(results))
"""
    (tmp_path / "script.py").write_text(source)
    command = f"exec {sys.executable} script.py <&- >&- 2>&-"

    subprocess.run(
        ["/bin/sh", "-c", command], cwd=tmp_path, env=environment(), timeout=LIMIT, check=True
    )

    assert (tmp_path / "results").read_text() == repr(list(range(1, 11)))


def test_what_tasks_print_is_seen_even_when_it_is_a_pipe(tmp_path):
    source = """
        import sys
        from parmap import parallel_map
        def f(x):
            print("item", x)
            print("error", x, file=sys.stderr)
        parallel_map(f, range(3), max_workers=1)
        print("end")
    """
    done = run_script(source, tmp_path)
    assert done.returncode == 0
    assert done.stdout == "item 0\nitem 1\nitem 2\nend\n"
    assert done.stderr == "error 0\nerror 1\nerror 2\n"
