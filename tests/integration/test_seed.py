"""`seed`: each item has its own randomness, whatever runs it where; without it, each worker has."""

# mypy: disable-error-code="attr-defined,index"
# ruff: noqa: NPY002 - the old generators that it warns of are what is seeded here

from __future__ import annotations

import random
import traceback
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

from parmap import (
    Pool,
    Retry,
    current_task,
    parallel_imap,
    parallel_map,
    parallel_starmap,
)
from parmap.testing.leaks import nothing_left_behind
from support.gates import Diary, kept_pool
from support.scripts import environment, output_of
from support.tasks import START_METHODS

COUNT = 200


def draw(_):
    """From everything there is; more from NumPy and `random` than from one call."""
    import numpy as np

    generator = np.random.default_rng(current_task().seed)
    return (
        random.random(), random.gauss(0, 1), float(np.random.random()), float(np.random.normal()),
        float(generator.random()),
    )  # fmt: skip


@pytest.fixture(scope="module")
def wanted():
    return parallel_map(draw, range(COUNT), seed=7, max_workers=0)


@pytest.fixture(scope="module")
def keeper(tmp_path_factory):
    with kept_pool(tmp_path_factory, 2) as keeper:
        yield keeper


@pytest.fixture
def pool(keeper):
    with keeper.lend() as pool:
        yield pool


def test_items_differ(wanted):
    for column in zip(*wanted, strict=True):
        assert len(set(column)) == COUNT
    assert not {row[0] for row in wanted} & {row[2] for row in wanted}  # the same generator inside


@pytest.mark.parametrize("size", [None, 1, 3, 64])
def test_chunks_do_not_matter(pool, wanted, size):
    assert parallel_map(draw, range(COUNT), seed=7, pool=pool, chunksize=size) == wanted


def test_other_maps_and_the_order_of_arrival_do_not_matter(pool, wanted):
    def tell(x):
        return x, draw(x)

    assert list(parallel_imap(draw, iter(range(COUNT)), seed=7, pool=pool)) == wanted
    assert parallel_starmap(draw, [(x,) for x in range(COUNT)], seed=7, pool=pool) == wanted
    pairs = parallel_imap(tell, range(COUNT), seed=7, ordered=False, pool=pool)
    assert [row for _, row in sorted(pairs)] == wanted


@pytest.mark.slow
@pytest.mark.parametrize("method", START_METHODS)
def test_worker_count_and_start_method_do_not_matter(wanted, method):
    """Also where NumPy is there from the start (fork), or an item is the first to import it."""
    with Pool(1, start_method=method) as pool:
        assert parallel_map(draw, range(COUNT), seed=7, pool=pool) == wanted


@pytest.mark.parametrize("workers", [0, 1])
def test_a_retry_draws_the_same_again(tmp_path, workers):
    drawn = Diary(tmp_path / "drawn")

    def task(x):
        numbers = random.random(), float(np.random.random()), current_task().seed
        drawn.write(numbers)
        if current_task().attempt < 3:
            raise ValueError(x)

    retry = Retry(attempts=3, on=ValueError)
    parallel_map(task, [0], seed=1, retry=retry, max_workers=workers)
    assert len(drawn.lines()) == 3
    assert len(set(drawn.lines())) == 1


def test_another_seed_gives_others(pool, wanted):
    other = parallel_map(draw, range(COUNT), seed=8, pool=pool)
    assert not {x for row in wanted for x in row} & {x for row in other for x in row}
    assert parallel_map(lambda _: current_task().seed, [0], pool=pool) == [None]


@pytest.mark.parametrize("seed", [0, -1, 2**300, np.int64(3)])
def test_any_int_is_a_seed(pool, seed):
    first = parallel_map(draw, range(3), seed=seed, pool=pool)
    assert first == parallel_map(draw, range(3), seed=int(seed), pool=pool)


@pytest.mark.parametrize("seed", [1.0, "1", True, np.random.default_rng(1), [1, 2]])
@pytest.mark.parametrize("call", [parallel_map, parallel_imap, parallel_starmap])
def test_anything_else_is_refused_at_the_door(call, seed):
    with pytest.raises(TypeError, match=f"seed must be an int or None, not {type(seed).__name__}"):
        call(draw, [(1,)], seed=seed)


def test_inline_the_callers_state_is_put_back_after_each_item():
    random.seed(1)
    np.random.seed(1)
    expected = [(random.random(), np.random.random()) for _ in range(4)]
    random.seed(1)
    np.random.seed(1)

    mine = [(random.random(), np.random.random())]
    draws = parallel_imap(draw, range(2), seed=7, max_workers=0)
    mine += [(random.random(), np.random.random()) for _ in draws]
    mine.append((random.random(), np.random.random()))

    assert mine == expected


def test_inline_it_is_put_back_after_a_failure_too():
    random.seed(1)
    before = random.getstate()

    def fail(_):
        random.random()
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        parallel_map(fail, [0], seed=1, max_workers=0)
    assert random.getstate() == before


def state(_):
    import numpy as np

    return random.getstate(), np.random.get_state()[1].tobytes()


def meet_and_draw(diary):
    """In every worker at the same time, so that each tells of its own."""
    import numpy as np

    pid = diary.meet(2)
    return pid, random.random(), float(np.random.random())


@pytest.mark.slow
@pytest.mark.parametrize("method", START_METHODS)
def test_without_a_seed_no_two_workers_share_a_state(method, tmp_path):
    """Forked from a process that has NumPy, too; also right after a call with a seed."""
    with Pool(2, start_method=method) as pool:
        for number in range(2):
            rows = parallel_map(
                meet_and_draw, [Diary(tmp_path / f"{number}")] * 2, pool=pool, chunksize=1
            )
            assert len({value for row in rows for value in row[1:]}) == 4
            parallel_map(draw, [0] * 8, seed=7, pool=pool, chunksize=4)


def test_a_seeded_item_leaves_nothing_behind_in_its_worker():
    """Else two workers that have run the same item last would draw the same from then on."""
    with Pool(1) as pool:
        parallel_map(draw, [0], seed=7, pool=pool)
        [one] = parallel_map(state, [0], pool=pool)
        parallel_map(draw, [0], seed=7, pool=pool)
        [other] = parallel_map(state, [0], pool=pool)

    assert one == other  # as nobody has drawn
    with Pool(1) as pool:
        parallel_map(draw, [0], seed=7, pool=pool)
        [third] = parallel_map(state, [0], pool=pool)
    assert third[0] != one[0]
    assert third[1] != one[1]


@pytest.mark.slow
def test_workers_that_are_forked_from_a_zygote_with_numpy_in_it_differ(tmp_path):
    """A `sitecustomize` brings NumPy into every Python of this program."""
    (tmp_path / "sitecustomize.py").write_text("import numpy.random\n")
    source = """
        import sys
        from parmap import Pool, parallel_map
        from support.gates import Diary

        def draw(diary):
            there = "numpy.random" in sys.modules
            import numpy
            diary.meet(2)
            return there, float(numpy.random.random())

        with Pool(2) as pool:
            rows = parallel_map(draw, [Diary(sys.argv[0] + ".met")] * 2, pool=pool, chunksize=1)
        print(rows[0][0], rows[1][0], rows[0][1] == rows[1][1])
    """
    path = f"{tmp_path}:{environment()['PYTHONPATH']}"
    assert output_of(source, tmp_path, PYTHONPATH=path) == "True True False\n"


def test_threads_of_another_engine_take_turns(wanted):
    with nothing_left_behind(), ThreadPoolExecutor(4) as engine:
        assert parallel_map(draw, range(COUNT), seed=7, pool=engine) == wanted
        assert parallel_map(draw, range(COUNT), seed=7, pool=engine, chunksize=3) == wanted


def test_a_seeded_call_within_one_on_the_same_threads_does_not_wait_for_itself():
    def outer(x):
        before = random.random()
        inner = parallel_map(lambda _: random.random(), range(3), seed=x, pool=engine)
        return before, inner, random.random()

    with ThreadPoolExecutor(4) as engine:
        first = parallel_map(outer, [5], seed=7, pool=engine)
        second = parallel_map(outer, [5], seed=7, pool=engine)

    assert first == second


def test_processes_of_another_engine(wanted):
    with ProcessPoolExecutor(2) as engine:
        assert parallel_map(draw, range(COUNT), seed=7, pool=engine) == wanted


def test_a_traceback_shows_nothing_of_the_seeding(pool):
    def fail(_):
        raise ValueError("mine")

    for options in ({"max_workers": 0}, {"pool": pool}):
        with pytest.raises(ValueError, match="mine") as caught:
            parallel_map(fail, [0], seed=1, **options)
        files = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert "_worker" not in "".join(files)
        assert "inline.py" not in "".join(files)


def test_the_results_do_not_depend_on_the_hash_seed_or_the_process(tmp_path, wanted):
    source = """
        import random
        from parmap import parallel_map
        print(parallel_map(lambda _: random.random(), range(3), seed=7, max_workers=1))
    """
    first = output_of(source, tmp_path, PYTHONHASHSEED="1")
    assert first == output_of(source, tmp_path, PYTHONHASHSEED="2")
    assert first == f"{[row[0] for row in wanted[:3]]}\n"
