"""Changed source and changed versions are noticed and said; what is stored is used all the same."""

from __future__ import annotations

import functools
import os
import warnings
from importlib import metadata

import pytest

import parmap._checkpoint.changes as changes_module
from parmap import parallel_map
from parmap._checkpoint.changes import differences, facts_of, name_of, unbound
from support.scripts import output_of
from support.tasks import double

SCRIPT = """
import functools
from parmap import parallel_map

{setting}

def helper(x):
    return x {helper}

class Model:
    def scale(self, x):
        return x * {scale}

def work(x):
    # {comment}
    return helper(x) + limit + Model().scale(x)

results = parallel_map(work, [1, 2], checkpoint=file, max_workers={workers})
"""
USUAL = {"setting": "limit = 0", "helper": "+ 1", "scale": "0", "comment": "", "workers": "0"}


def run(file, **changed):
    """Run a script as it is now; its functions go by value, as those of `__main__` do."""
    script = compile(SCRIPT.format(**{**USUAL, **changed}), "script.py", "exec")
    namespace = {"__name__": "script", "file": file}
    exec(script, namespace)
    return namespace["results"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"helper": "+ 2"}, "the code of helper"),
        ({"scale": "3"}, "the code of Model.scale"),
        ({"setting": "limit = 5"}, "the value of limit"),
        ({"setting": "limit = 0.0"}, "the value of limit"),
    ],
)
def test_changed_code_and_values_are_said_in_every_run_that_uses_what_is_stored(
    changed, told, file
):
    assert run(file) == [2, 3]
    for _ in range(2):
        with pytest.warns(
            UserWarning, match="script.work has changed since results were"
        ) as caught:
            assert run(file, **changed) == [2, 3]
        assert told in str(caught[0].message)
        assert len(caught) == 1
        assert caught[0].filename == "script.py"  # the user's line, not ours


@pytest.mark.parametrize(
    "changed",
    [{}, {"comment": "another comment"}, {"setting": "\n\nlimit = 0"}, {"workers": "1"}],
)
def test_what_makes_no_difference_is_not_said(changed, file):
    assert run(file) == [2, 3]
    assert run(file, **changed) == [2, 3]


def test_what_is_seen_of_a_function_is_the_same_in_every_run(folder):
    """Sets in its code come in another order each time."""
    script = """
        import json
        from parmap._checkpoint.changes import facts_of

        allowed = {"a", "b", "c", "d"}

        def work(word):
            return [w for w in allowed if w in {"x", "y", "z"}]

        print(json.dumps(facts_of(work), sort_keys=True))
    """
    assert len({output_of(script, folder, PYTHONHASHSEED=str(seed)) for seed in range(2)}) == 1


def test_a_changed_version_is_said(file, monkeypatch):
    def run():
        return parallel_map(double, [1, 2], max_workers=0, checkpoint=file)

    assert run() == [2, 4]
    monkeypatch.setattr("platform.python_version", lambda: "3.99.1")
    with pytest.warns(UserWarning, match=r"Python 3\..* → 3\.99\.1") as told:
        assert run() == [2, 4]
    assert told[0].filename == __file__
    monkeypatch.undo()
    monkeypatch.setattr(changes_module, "__version__", "99.0")
    with pytest.warns(UserWarning, match=r"parmap .* → 99\.0"):
        assert run() == [2, 4]
    monkeypatch.undo()
    assert run() == [2, 4]


def test_nothing_is_said_where_nothing_was_stored(file, monkeypatch):
    """A version that has left no result changes nothing."""
    with pytest.raises(ZeroDivisionError):
        parallel_map(functools.partial(divmod, 1), [0], max_workers=0, checkpoint=file)
    monkeypatch.setattr(changes_module, "__version__", "99.0")
    with pytest.raises(ZeroDivisionError):
        parallel_map(functools.partial(divmod, 1), [0], max_workers=0, checkpoint=file)


def test_the_version_is_that_of_the_distribution_which_brought_the_function():
    """Whatever it is called: `yaml` comes with PyYAML, `_pytest` with pytest."""
    import _pytest.outcomes
    import hypothesis

    assert facts_of(hypothesis.given)["version"]["hypothesis"] == metadata.version("hypothesis")
    assert facts_of(_pytest.outcomes.skip)["version"]["pytest"] == metadata.version("pytest")
    assert set(facts_of(os.path.join)["version"]) == {"Python", "parmap"}


def test_another_feature_version_of_python_explains_other_code():
    """The same source is other bytecode there."""
    then = {"version": {"Python": "3.11.7"}, "code": {"f": "1"}, "value": {}}
    now = {"version": {"Python": "3.12.1"}, "code": {"f": "2"}, "value": {}}

    assert differences(then, now) == ["Python 3.11.7 → 3.12.1"]


def test_functions_are_found_through_what_wraps_them():
    def plain(x):
        return x + 1

    @functools.cache
    def cached(x):
        return plain(x)

    @functools.wraps(plain)
    def wrapping(x):
        return cached(x)

    class Kind:
        @staticmethod
        def static(x):
            return wrapping(x)

        @classmethod
        def classy(cls, x):
            return cls.static(x)

        @property
        def shown(self):
            return wrapping(2)

    here = "test_functions_are_found_through_what_wraps_them.<locals>."
    for fn, expected in [
        (cached, {"cached", "plain"}),
        (wrapping, {"plain", "cached"}),
        (Kind, {"Kind.static", "Kind.classy", "Kind.shown", "plain", "cached"}),
        (Kind.classy, {"Kind.classy"}),
        (functools.partial(Kind.static, 1), {"Kind.static", "plain", "cached"}),
    ]:
        inner, _ = unbound(fn)
        assert {each.removeprefix(here) for each in facts_of(inner)["code"]} == expected
        assert name_of(inner).startswith(f"{__name__}.{here}")


def test_what_cannot_be_pickled_is_not_said_to_have_changed(file):
    """A lock, a logger, a connection: nobody can tell."""

    def run():
        words = (word for word in ["a"])

        def work(x):
            return (x, words is None)

        return parallel_map(work, [1], max_workers=0, checkpoint=file)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run() == run() == [(1, False)]
