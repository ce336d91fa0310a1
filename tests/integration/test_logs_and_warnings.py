"""Log records and warnings of workers meet the caller's handlers, levels and filters, marked."""

from __future__ import annotations

import logging
import os
import textwrap
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from parmap import Pool, parallel_map, run_workers
from parmap.errors import RemoteError
from support.gates import kept_pool, wait_until
from support.scripts import output_of, run_script

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("tasks.some")


class Kept(logging.Handler):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def texts(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@contextmanager
def handled(
    handler: logging.Handler, name: str = "tasks", level: int = logging.INFO
) -> Iterator[None]:
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler = Kept()
    with handled(handler):
        yield handler


@pytest.fixture(scope="module")
def _keeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with kept_pool(tmp_path_factory) as keeper:
        yield keeper


@pytest.fixture
def pool(_keeper: Any) -> Iterator[Pool]:
    with _keeper.lend() as pool:
        yield pool


def report(x: int) -> int:
    log.info("at %d", x)
    log.debug("nobody asked for this")
    return os.getpid()


def test_records_come_with_worker_pid_and_item(pool, kept):
    pids = parallel_map(report, range(3), pool=pool)

    assert sorted(kept.texts) == ["at 0", "at 1", "at 2"]
    for record in kept.records:
        assert record.processName is not None
        assert record.processName.startswith("pool-")
        assert record.process == pids[record.parmap_index]
        assert (record.name, record.funcName, record.args) == (
            "tasks.some", "report", (record.parmap_index,),
        )  # fmt: skip


def test_levels_and_filters_are_the_callers_as_they_are_now(pool, kept):
    kept.addFilter(lambda record: record.args != (1,))
    kept.setLevel(logging.WARNING)
    parallel_map(report, range(3), pool=pool)
    assert kept.texts == []

    kept.setLevel(logging.DEBUG)
    logging.getLogger("tasks").setLevel(logging.DEBUG)
    parallel_map(report, range(3), pool=pool)
    assert sorted(set(kept.texts)) == ["at 0", "at 2", "nobody asked for this"]

    kept.records.clear()
    logging.disable(logging.CRITICAL)
    try:
        parallel_map(report, range(3), pool=pool)
    finally:
        logging.disable(logging.NOTSET)
    assert kept.records == []


class Unpicklable:
    def __reduce__(self) -> Any:
        raise TypeError("stays here")

    def __repr__(self) -> str:
        return "<stays>"


class Unbuildable:
    def __reduce__(self) -> Any:
        return int, ("no number",)

    def __repr__(self) -> str:
        return "<cannot be rebuilt>"


def log_oddities(x: int) -> None:
    log.info("with %s", Unpicklable(), extra={"own": Unpicklable(), "plain": 7})
    log.info("with %s", Unbuildable())
    log.info("with %(a)s", {"a": [1]})
    log.info(Unpicklable())


def test_what_cannot_travel_is_text(pool, kept):
    parallel_map(log_oddities, [0], pool=pool)

    assert kept.texts == ["with <stays>", "with <cannot be rebuilt>", "with [1]", "<stays>"]
    assert (kept.records[0].own, kept.records[0].plain) == ("<stays>", 7)
    assert kept.records[2].args == {"a": [1]}


def log_errors(x: int) -> None:
    class Local(Exception):
        pass

    for error in (KeyError("k"), Local("no name")):
        try:
            raise error
        except Exception:
            log.exception("failed")


def test_errors_come_with_their_tracebacks(pool, kept):
    parallel_map(log_errors, [0], pool=pool)

    first, second = kept.records
    assert first.exc_info[0] is KeyError
    assert first.exc_info[2].tb_frame.f_code.co_name == "log_errors"
    assert isinstance(second.exc_info[1], RemoteError)
    for record, text in ((first, "KeyError: 'k'"), (second, "Local: no name")):
        shown = logging.Formatter().format(record)
        assert shown.count("Traceback") == 1
        assert "in log_errors" in shown
        assert text in shown


def test_arguments_that_do_not_fit_are_told_as_ever(pool, capsys):
    parallel_map(lambda x: log.warning("%d and %d", *[1]), [0], pool=pool)

    assert "--- Logging error ---" in capsys.readouterr().err


def test_a_worker_that_imports_logging_in_the_middle_of_an_item_is_heard(tmp_path):
    module = """
        import sys
        def f(x):
            assert "logging" not in sys.modules
            import logging
            logging.warning("item %d", x)
            assert logging.__spec__.loader.get_filename("logging") == logging.__file__
    """
    (tmp_path / "module.py").write_text(textwrap.dedent(module))
    source = """
        import logging, sys
        from module import f
        from parmap import parallel_map
        logging.basicConfig(format="%(levelname)s %(message)s %(parmap_index)d", stream=sys.stdout)
        parallel_map(f, range(1), max_workers=1)
    """
    assert output_of(source, tmp_path) == "WARNING item 0 0\n"


def test_without_any_handler_warnings_go_to_stderr_as_ever(tmp_path):
    source = """
        import logging
        from parmap import parallel_map
        def f(x):
            logging.getLogger("a.b").warning("seen")
            logging.getLogger("a.b").info("unseen")
        parallel_map(f, range(1), max_workers=1)
    """
    assert run_script(source, tmp_path).stderr == "seen\n"


def own_handler(path: str, name: str) -> None:
    logger = logging.getLogger(name)
    logger.addHandler(logging.FileHandler(path))
    logger.setLevel(logging.INFO)


@pytest.mark.parametrize("name", ["", "tasks", "tasks.some"])
def test_a_worker_with_handlers_of_its_own_uses_those(name, tmp_path, kept):
    path = tmp_path / "log"
    with Pool(1, initializer=own_handler, initargs=(str(path), name)) as pool:
        parallel_map(report, range(2), pool=pool)

    assert (path.read_text(), kept.texts) == ("at 0\nat 1\n", [])


def test_a_handler_that_is_inherited_by_a_fork_is_left_to_the_parent(kept):
    with Pool(1, start_method="fork") as pool:
        parallel_map(report, range(2), pool=pool)

    assert kept.texts == ["at 0", "at 1"]


def test_the_shared_pool_futures_and_groups_log_too(kept):
    parallel_map(report, [1], max_workers=1)
    with Pool(1) as pool:
        pool.submit(report, 2).result()
    run_workers(report, 2, names=["left", "right"])

    assert sorted(kept.texts) == ["at 0", "at 1", "at 1", "at 2"]
    assert {record.processName for record in kept.records} >= {"left", "right"}
    assert [record.parmap_index for record in kept.records[1:]] == [None] * 3


def test_records_of_a_map_are_handled_in_the_callers_thread(pool, kept):
    threads = set()

    def note(record: logging.LogRecord) -> bool:
        threads.add(threading.get_ident())
        return True

    kept.addFilter(note)
    parallel_map(report, range(10), pool=pool)

    assert threads == {threading.get_ident()}


class Mapping(Kept):
    """Calls parmap for each record."""

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self.pool = pool

    def emit(self, record: logging.LogRecord) -> None:
        assert parallel_map(abs, [-1, -2, -3], pool=self.pool) == [1, 2, 3]
        assert self.pool.submit(abs, -4).result() == 4
        super().emit(record)


def test_a_handler_may_call_parallel_map(pool):
    handler = Mapping(pool)
    with handled(handler):
        parallel_map(report, range(10), pool=pool)
        futures = [pool.submit(report, x) for x in range(10)]
        for future in futures:
            future.result()

    assert len(handler.records) == 20


class Nested(Kept):
    """For a record of this process, it runs a map whose items log."""

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self.pool = pool

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        if record.msg == "outer":
            parallel_map(report, range(4), pool=self.pool)
            self.pool.submit(report, 4).result()
            run_workers(report, 1)


def test_a_map_within_a_handler_whose_items_log_ends(pool):
    handler = Nested(pool)
    with handled(handler):
        log.info("outer")
        wait_until(lambda: len(handler.records) == 7)

    assert sorted(handler.texts) == ["at 0", "at 0", "at 1", "at 2", "at 3", "at 4", "outer"]


def test_a_handlers_lock_that_waits_for_a_map_does_not_stop_it(pool, kept):
    kept.acquire()
    try:
        other = threading.Thread(target=lambda: pool.submit(report, 1).result())
        other.start()
        assert parallel_map(report, range(3), pool=pool)
    finally:
        kept.release()
    other.join()
    wait_until(lambda: len(kept.records) == 4)

    assert sorted(kept.texts) == ["at 0", "at 1", "at 1", "at 2"]


class Failing(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        raise RuntimeError("the filter's own")


def test_a_filter_that_raises_fails_no_item(pool, kept, capsys):
    kept.addFilter(Failing())
    assert len(parallel_map(report, range(3), pool=pool)) == 3

    assert capsys.readouterr().err.count("RuntimeError: the filter's own") == 3


class OwnWarning(UserWarning):
    def __init__(self, text: str, number: int = 3) -> None:
        super().__init__(text)
        self.number = number


def careless(x: int) -> int:
    warnings.warn("careful", OwnWarning, stacklevel=1)
    return x


def test_a_warning_is_recorded_with_its_place_and_mark(pool):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        parallel_map(careless, range(5), pool=pool)

    assert [str(each.message) for each in seen] == ["careful"] * 5
    assert {each.category for each in seen} == {OwnWarning}
    assert {each.filename for each in seen} == {__file__}
    messages: list[Any] = [each.message for each in seen]
    assert sorted(message.parmap_index for message in messages) == [0, 1, 2, 3, 4]
    assert all(message.parmap_worker.startswith("pool-") for message in messages)


def test_by_default_it_is_shown_once_per_place_in_all_workers(pool):
    for _ in range(2):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("default")
            run = parallel_map(careless, range(20), pool=pool, chunksize=1)

        assert (len(seen), len(run)) == (1, 20)


def test_an_ignored_warning_is_not_shown_and_one_that_is_an_error_is_the_items(pool):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("ignore")
        parallel_map(careless, range(5), pool=pool)
        warnings.simplefilter("error")
        with pytest.raises(OwnWarning, match="careful") as caught:
            parallel_map(careless, range(5), pool=pool)

    assert seen == []
    assert "item 0" in caught.value.__notes__[0]


def test_a_warning_of_a_function_by_value_shows_its_line(tmp_path):
    source = """
        import warnings
        from parmap import parallel_map
        class Mine(UserWarning): pass
        def f(x):
            warnings.warn("look", Mine)
            return x
        for _ in range(2):
            parallel_map(f, range(4), max_workers=2, chunksize=1)
    """
    done = run_script(source, tmp_path)

    assert done.stderr.count("UserWarning: look\n") == 1
    assert "script.py:" in done.stderr
    assert 'warnings.warn("look", Mine)' in done.stderr


def test_warnings_that_logging_captures_are_the_parents_records(pool):
    handler = Kept()
    logging.captureWarnings(True)
    try:
        with handled(handler, "py.warnings"), warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = logging._showwarning  # type: ignore[attr-defined]
            parallel_map(careless, range(1), pool=pool)
    finally:
        logging.captureWarnings(False)

    assert len(handler.records) == 1
    assert "OwnWarning: careful" in handler.texts[0]
