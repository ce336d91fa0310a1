"""By value, with a fresh interpreter as the worker and every way to run a script as the sender.

The cases themselves are in ``tests/support/by_value_script.py``, which is a user's script: it is
run, not imported.
"""

import importlib.util
import os
import subprocess
import sys
import textwrap
import types
import unittest

import pytest

from parmap._wire.importable import goes_by_reference
from parmap._wire.pickling import Codec, Encoded
from support.wire_peer import Peer

TESTS = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPT = os.path.join(TESTS, "support", "by_value_script.py")
WAYS = ["script", "stdin", "-c", "-m", "exec {}", "exec nowhere", "exec None", "exec json"]


def environment(*paths):
    source = os.path.dirname(os.path.dirname(sys.modules["parmap"].__file__))
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, paths), source, TESTS])}


def run(*args, text=None, paths=()):
    done = subprocess.run(
        [sys.executable, *map(str, args)], input=text, capture_output=True, text=True,
        env=environment(*paths), timeout=50, check=False,
    )  # fmt: skip
    return done.stdout.splitlines(), done.stderr


def run_way(way, script, folder):
    with open(script) as file:
        source = file.read()
    if way == "script":
        return run(script)
    if way == "stdin":
        return run("-", text=source)
    if way == "-c":
        return run("-c", source)
    if way == "-m":
        package = folder / "package_of_user"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "program.py").write_text(source)
        return run("-m", "package_of_user.program", paths=[folder])
    name = {"{}": {}, "None": {"__name__": None}}.get(way[5:], {"__name__": way[5:]})
    return run("-c", f"exec(compile(open({script!r}).read(), '<cell>', 'exec'), {name!r})")


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_functions_and_classes_of_a_script_work_in_a_worker(way, tmp_path):
    lines, errors = run_way(way, SCRIPT, tmp_path)

    assert [line for line in lines if not line.startswith("ok ")] == ["end"]
    assert len(lines) > 130
    assert errors == ""


def run_text(text, tmp_path, *, before=""):
    """Run a script of a test in which `peer` is a worker; it prints what the test expects."""
    script = tmp_path / "script.py"
    body = textwrap.indent(textwrap.dedent(text), "    ")
    start = "from support.wire_peer import Peer\nwith Peer() as peer:"
    script.write_text(f"{before}\n{start}\n{body}")
    lines, errors = run(script)
    assert errors == ""
    return lines


def test_a_worker_imports_cloudpickle_only_for_what_comes_by_value(tmp_path):
    lines = run_text(
        """
        class Local:
            pass
        peer.call(os.path.join, "a", "b")
        print("cloudpickle" in peer.modules())
        peer.call(lambda: 1)
        print("cloudpickle" in peer.modules())
        """,
        tmp_path,
        before="import os.path",
    )

    # Peer.call itself sends a partial of an importable function: nothing goes by value.
    assert lines == ["False", "True"]


def test_each_call_sees_the_version_of_its_time(tmp_path):
    """Redefining a class or a function does not reach back, and old results keep the old class."""
    lines = run_text(
        """
        def version(): return 1
        class C:
            number = 1
        def make(): return C(), version()
        first, one = peer.call(make)
        Old = C
        def version(): return 2
        class C:
            number = 2
        second, two = peer.call(make)
        print(type(first) is Old, one, type(second) is C, two)
        print(peer.call(lambda x: (type(x) is C, x.number, C.number), first))
        C.number = 3
        print(peer.call(lambda: C.number))
        """,
        tmp_path,
    )

    assert lines == ["True 1 True 2", "(False, 1, 2)", "3"]


def test_a_class_dropped_during_its_call_is_still_found(tmp_path):
    lines = run_text(
        """
        def make():
            class Local: pass
            return Local
        (result,) = peer.map(lambda x: x, [make()()])
        print(type(result).__qualname__)
        """,
        tmp_path,
    )

    assert lines == ["make.<locals>.Local"]


def test_later_entries_of_the_path_count(tmp_path):
    """The worker takes over the caller's path at the call, so what lies there goes by name."""
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "found_later.py").write_text("def f(): return __name__, __file__")
    lines = run_text(
        """
        import found_later
        from parmap._wire.importable import goes_by_reference
        print(goes_by_reference(found_later.f), peer.call(found_later.f)[0])
        print("cloudpickle" in peer.modules())
        """,
        tmp_path,
        before=f"import sys; sys.path.append({str(tmp_path / 'later')!r})",
    )

    assert lines == ["True found_later", "False"]


DYNAMIC = """
import threading
factor = 3
def f(x): return x * factor + len(g())
def g(): return [C()]
class C:
    def __eq__(self, other): return type(other) is type(self)
"""


def test_modules_that_a_worker_cannot_import_go_by_value(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "hidden.py").write_text(DYNAMIC)
    lines = run_text(
        f"""
        path = {str(tmp_path)!r} + "/elsewhere/hidden.py"
        spec = importlib.util.spec_from_file_location("hidden", path)
        hidden = sys.modules["hidden"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(hidden)
        made = sys.modules["made"] = types.ModuleType("made")
        exec({DYNAMIC!r}, vars(made))
        for module in (hidden, made):
            print(peer.call(module.f, 2), type(peer.call(module.g)[0]) is module.C)
            print(peer.call(lambda: module.f(1) + module.factor))
        """,
        tmp_path,
        before="import importlib.util, sys, types",
    )

    assert lines == ["7 True", "7"] * 2


def test_the_script_imported_again_is_not_run_again_in_a_worker(tmp_path):
    """The module `script` has the file of ``__main__``: importing it would run the script."""
    (tmp_path / "script.py").write_text(
        "import sys\n"
        "def f(): return 5\n"
        "if __name__ == '__main__':\n"
        "    sys.path.insert(0, __file__.rpartition('/')[0])\n"
        "    import script\n"
        "    from parmap._wire.importable import goes_by_reference\n"
        "    print(goes_by_reference(script.f))\n"
    )

    assert run(tmp_path / "script.py") == (["False"], "")


def test_doctests_module_names_mean_by_value():
    """Under sphinx.ext.doctest functions have no module, and classes claim to be builtin."""
    namespace: dict = {}
    exec("def f(): return 1\nclass C: pass", namespace)
    f, cls = namespace["f"], namespace["C"]
    assert (cls.__module__, f.__module__) == ("builtins", None) or f.__module__ == "builtins"
    f.__module__ = None

    with Peer() as peer:
        assert peer.call(f) == 1
        assert type(peer.call(lambda: cls())) is cls


@pytest.mark.parametrize(
    "obj", [len, os.path.join, dict, Codec, Codec.dumps, types.SimpleNamespace, unittest.TestCase]
)
def test_importable_things_go_by_name(obj):
    assert goes_by_reference(obj)


def test_a_function_hidden_in_a_class_method_goes_by_value():
    assert not goes_by_reference(vars(Encoded)["from_segments"].__func__)


def test_a_reloaded_or_removed_module_is_noticed(monkeypatch, tmp_path):
    (tmp_path / "passing_by.py").write_text("def f(): pass")
    monkeypatch.syspath_prepend(tmp_path)
    import passing_by  # type: ignore[import-not-found]

    assert goes_by_reference(passing_by.f)
    monkeypatch.delitem(sys.modules, "passing_by")
    assert not goes_by_reference(passing_by.f)


def test_an_old_function_of_a_reloaded_module_goes_by_value(monkeypatch, tmp_path):
    (tmp_path / "loaded_twice.py").write_text("def f(): pass")
    monkeypatch.syspath_prepend(tmp_path)
    import loaded_twice  # type: ignore[import-not-found]

    old = loaded_twice.f
    importlib.reload(loaded_twice)

    assert not goes_by_reference(old)
    assert goes_by_reference(loaded_twice.f)


def test_a_path_entry_that_goes_away_is_noticed(monkeypatch, tmp_path):
    (tmp_path / "there_for_now.py").write_text("def f(): pass")
    monkeypatch.syspath_prepend(tmp_path)
    import there_for_now  # type: ignore[import-not-found]

    assert goes_by_reference(there_for_now.f)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(tmp_path)])
    assert not goes_by_reference(there_for_now.f)
    monkeypatch.delitem(sys.modules, "there_for_now")


def test_ten_thousand_instances_send_their_class_once(tmp_path):
    lines = run_text(
        """
        class C:
            text = "x" * 10_000
            def __init__(self, n): self.n = n
        from parmap._wire.payload import pack_values
        from parmap._wire.pickling import Codec
        payload = pack_values([C(n) for n in range(1000)], Codec("to worker"), str)
        print(payload.nbytes < 200_000)
        print(sum(peer.map(lambda c: c.n, [C(n) for n in range(1000)])))
        """,
        tmp_path,
    )

    assert lines == ["True", "499500"]


def test_items_of_a_class_that_cannot_travel_fail_and_say_why(tmp_path):
    lines = run_text(
        """
        class Bad:
            lock = threading.Lock()
        class Good: pass
        from parmap._wire.payload import pack_values, unpack
        from parmap._wire.pickling import Codec
        payload = pack_values([Bad(), Good(), Bad()], Codec("to worker"), "args[{}]".format)
        for item in unpack(payload.segments, [], False, Codec("to caller")):
            value = item.load()
            print(getattr(value, "path", type(value).__name__))
        """,
        tmp_path,
        before="import threading",
    )

    assert lines == ["args[0].__class__.lock", "Good", "args[2].__class__.lock"]


def test_results_of_classes_made_in_the_worker_share_one_class(tmp_path):
    lines = run_text(
        """
        def make_all(_):
            global Made
            if "Made" not in globals():
                class Made:
                    pass
            return Made()
        a, b = peer.map(make_all, "ab")
        print(type(a) is type(b), type(a).__name__)
        """,
        tmp_path,
    )

    assert lines == ["True Made"]


def test_a_function_by_value_keeps_its_file_at_every_depth():
    names: dict[str, types.FunctionType] = {}
    source = "def outer():\n    def inner():\n        return 1\n    return inner\n"
    exec(compile(source, "/home/user/cell.py", "exec"), names)

    outer = Codec("to worker").loads(Codec("to worker").dumps(names["outer"]))

    assert outer.__code__.co_filename == "/home/user/cell.py"
    assert outer().__code__.co_filename == "/home/user/cell.py"
