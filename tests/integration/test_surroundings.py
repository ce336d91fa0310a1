"""Before a call its workers become like the caller: folder, path, environment, logs, warnings."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings

import pytest

from parmap import Pool, parallel_map
from support.gates import kept_pool
from support.scripts import LIMIT, output_of


@pytest.fixture(scope="module")
def keeper(tmp_path_factory):
    with kept_pool(tmp_path_factory, 1) as keeper:
        yield keeper


@pytest.fixture
def pool(keeper):
    with keeper.lend() as pool:
        yield pool


def ask(pool, question):
    [answer] = parallel_map(question, [0], pool=pool)
    return answer


def test_a_warm_worker_follows_the_callers_folder(pool, tmp_path, monkeypatch):
    before = os.getcwd()
    assert ask(pool, lambda _: os.getcwd()) == before
    monkeypatch.chdir(tmp_path)
    assert ask(pool, lambda _: os.getcwd()) == str(tmp_path)
    monkeypatch.undo()
    assert ask(pool, lambda _: os.getcwd()) == before


def test_a_warm_worker_follows_the_environment(pool, monkeypatch):
    monkeypatch.setenv("PARMAP_TEST_VARIABLE", "one")
    assert ask(pool, lambda _: os.environ.get("PARMAP_TEST_VARIABLE")) == "one"
    monkeypatch.setenv("PARMAP_TEST_VARIABLE", "two")
    assert ask(pool, lambda _: os.environ.get("PARMAP_TEST_VARIABLE")) == "two"
    monkeypatch.delenv("PARMAP_TEST_VARIABLE")
    assert ask(pool, lambda _: os.environ.get("PARMAP_TEST_VARIABLE")) is None
    there = ask(pool, lambda _: dict(os.environ))
    assert {name: there.get(name) for name in os.environ} == dict(os.environ)
    assert all(name.endswith("_THREADS") for name in there.keys() - os.environ.keys())


def test_a_warm_worker_follows_the_path(pool, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    assert ask(pool, lambda _: list(sys.path)) == sys.path


def test_submitted_calls_follow_too(pool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert pool.submit(os.getcwd).result(LIMIT) == str(tmp_path)


def test_log_levels_are_those_of_the_caller(pool):
    logger = logging.getLogger("parmap.test.some")

    def level(_):
        return logging.getLogger("parmap.test.some").getEffectiveLevel()

    logger.setLevel(logging.DEBUG)
    try:
        assert ask(pool, level) == logging.DEBUG
        logger.setLevel(logging.ERROR)
        assert ask(pool, level) == logging.ERROR
    finally:
        logger.setLevel(logging.NOTSET)
    assert ask(pool, level) == logging.getLogger().getEffectiveLevel()


def test_warning_filters_are_those_of_the_caller(pool):
    def warn(_):
        warnings.warn("some warning", UserWarning, stacklevel=1)
        return "passed"

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="some warning"):
            ask(pool, warn)
        warnings.simplefilter("ignore")
        assert ask(pool, warn) == "passed"


def test_a_filter_of_a_class_that_cannot_travel_does_no_harm(pool):
    class Mine(UserWarning):
        pass

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Mine)
        assert ask(pool, lambda _: "passed") == "passed"


def test_an_item_that_changes_its_surroundings_does_not_change_the_next_call(pool, tmp_path):
    """The next call with other surroundings sets them; the same ones may be kept."""

    def change(folder):
        os.environ["PARMAP_TEST_VARIABLE"] = "left"
        os.chdir(folder)

    [_] = parallel_map(change, [str(tmp_path)], pool=pool)
    os.environ["PARMAP_TEST_OTHER"] = "x"
    try:
        assert ask(pool, lambda _: os.environ.get("PARMAP_TEST_VARIABLE")) is None
        assert ask(pool, lambda _: os.getcwd()) == os.getcwd()
    finally:
        del os.environ["PARMAP_TEST_OTHER"]


def test_a_worker_that_holds_a_module_whose_file_changed_is_replaced(tmp_path, monkeypatch):
    module = tmp_path / "parmap_changing.py"
    module.write_text("def f(x):\n    return 'old'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    changing = importlib.import_module("parmap_changing")
    try:
        with Pool(1) as pool:
            assert parallel_map(changing.f, [1], pool=pool) == ["old"]
            module.write_text("def f(x):\n    return 'brand new'\n")
            importlib.reload(changing)
            assert parallel_map(changing.f, [1], pool=pool) == ["brand new"]
    finally:
        del sys.modules["parmap_changing"]


def test_a_module_that_is_reloaded_with_other_content_is_used_anew(tmp_path):
    (tmp_path / "settings.py").write_text("import os\nvalue = os.environ.get('VALUE', 'none')\n")
    source = """
        import importlib, os, sys
        sys.dont_write_bytecode = True
        from parmap import parallel_map
        import settings
        def read(x): return settings.value
        print(parallel_map(read, [1], max_workers=1), flush=True)
        os.environ["VALUE"] = "set"
        importlib.reload(settings)
        print(parallel_map(read, [1], max_workers=1))
    """
    assert output_of(source, tmp_path) == "['none']\n['set']\n"


def test_workers_see_modules_as_imported_not_as_changed(tmp_path):
    """What does NOT travel, as the documentation says."""
    (tmp_path / "settings.py").write_text("value = 'imported'\n")
    source = """
        from parmap import parallel_map
        import settings
        settings.value = "changed"
        print(parallel_map(lambda x: settings.value, [1], max_workers=1))
    """
    assert output_of(source, tmp_path) == "['imported']\n"


def test_a_task_reads_nothing_from_the_callers_stdin(tmp_path):
    source = """
        import sys
        from parmap import parallel_map
        print(parallel_map(lambda x: sys.stdin.read(), [1], max_workers=1))
    """
    assert output_of(source, tmp_path) == "['']\n"
