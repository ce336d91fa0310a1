"""joblib and scikit-learn on parmap's workers."""

from __future__ import annotations

import os

import pytest

from support.tasks import double, fail_if_odd

joblib = pytest.importorskip("joblib", reason="make test-integrations installs it")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _registered():
    from parmap.integrations.joblib import register

    register()
    with joblib.parallel_config("parmap", n_jobs=2):
        yield


def test_results_come_in_order_from_other_processes():
    assert joblib.Parallel()(joblib.delayed(double)(x) for x in range(100)) == [
        2 * x for x in range(100)
    ]
    pids = joblib.Parallel(batch_size=1)(joblib.delayed(os.getpid)() for _ in range(10))
    assert os.getpid() not in pids


def test_an_error_is_raised_as_it_is_and_the_pool_goes_on():
    with pytest.raises(ValueError, match="odd"):
        joblib.Parallel()(joblib.delayed(fail_if_odd)(x) for x in range(10))

    assert joblib.Parallel()([joblib.delayed(double)(2)]) == [4]


def test_results_can_be_had_as_they_come():
    results = joblib.Parallel(return_as="generator")(joblib.delayed(double)(x) for x in range(20))

    assert list(results) == [2 * x for x in range(20)]


def test_cross_validation_of_scikit_learn_runs_on_it():
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, cross_val_score

    data, target = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500)
    with joblib.parallel_config("sequential"):
        expected = cross_val_score(model, data, target).tolist()
    assert cross_val_score(model, data, target, n_jobs=2).tolist() == expected

    search = GridSearchCV(model, {"C": [0.1, 1.0]}, n_jobs=2).fit(data, target)
    assert search.best_score_ > 0.9
