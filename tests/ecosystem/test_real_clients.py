"""Libraries that take a pool or a map from their user: they get parmap's."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest

from parmap import Pool, parallel_imap, parallel_map
from support.tasks import double

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


@pytest.fixture(scope="module")
def pool():
    with Pool(2) as pool:
        yield pool


@pytest.mark.parametrize("which", ["pool.map", "parallel_map"])
def test_scipy_evolves_a_population_on_a_pool_or_with_a_map(pool, which):
    optimize = pytest.importorskip("scipy.optimize", reason="make test-integrations installs it")
    pids = set()

    def rosenbrock(x):
        return float(100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2)

    def evolve(workers):
        result = optimize.differential_evolution(
            rosenbrock, [(-2, 2)] * 2, seed=1, maxiter=10, popsize=5, polish=False,
            updating="deferred", workers=workers,
        )  # fmt: skip
        return result.x.tolist()

    def noting(function, items):
        pids.update(workers_map(lambda _: os.getpid(), range(2)))
        return workers_map(function, items)

    workers_map = pool.map if which == "pool.map" else parallel_map
    assert evolve(noting) == evolve(workers_map) == evolve(map)
    assert os.getpid() not in pids


def test_emcee_samples_on_a_pool(pool):
    emcee = pytest.importorskip("emcee", reason="make test-integrations installs it")
    center = np.array([1.0, -1.0])

    def log_probability(x):
        return -0.5 * float(((x - center) ** 2).sum())

    def sample(pool):
        sampler = emcee.EnsembleSampler(8, 2, log_probability, pool=pool)
        sampler.random_state = np.random.RandomState(1).get_state()
        sampler.run_mcmc(np.random.default_rng(1).normal(size=(8, 2)), 10)
        return sampler.get_chain()

    np.testing.assert_array_equal(sample(pool), sample(None))


def test_dask_computes_its_graphs_on_a_pool(pool):
    dask = pytest.importorskip("dask", reason="make test-integrations installs it")
    bag = pytest.importorskip("dask.bag")

    with dask.config.set(scheduler="processes", pool=pool):
        assert bag.from_sequence(range(10), npartitions=4).map(double).sum().compute() == 90
        assert dask.delayed(os.getpid)().compute() != os.getpid()
        with pytest.raises(ZeroDivisionError):
            dask.delayed(lambda: 1 // 0)().compute()


def test_tqdm_counts_what_comes(pool):
    tqdm = pytest.importorskip("tqdm")
    bar = io.StringIO()

    with tqdm.tqdm(parallel_imap(double, range(40), pool=pool), total=40, file=bar) as results:
        assert list(results) == [2 * x for x in range(40)]
    assert "40/40" in bar.getvalue()
    bar = io.StringIO()
    assert list(tqdm.tqdm(pool.map(double, range(9)), total=9, file=bar)) == [
        2 * x for x in range(9)
    ]
    assert "9/9" in bar.getvalue()
