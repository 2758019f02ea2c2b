"""Searches that joblib spreads over the processes of loky, Dask and Ray find what one process finds, to the bit."""

import contextlib
import json
import math
import os
import sys
import warnings

import joblib
import numba
import numpy as np
import pytest
from numba.core import event
from sklearn.model_selection import GridSearchCV, KFold

import fastmlp

BACKENDS = {"loky": None, "dask": "dask.distributed", "ray": "ray"}  # and the packages that they need
WORKERS = 2


def data():
    """X, of more than the megabyte from which on joblib maps arrays into memory; labels; targets."""
    r = np.random.default_rng(0)
    X = r.standard_normal((4500, 30))
    targets = np.tanh(X @ r.standard_normal((30, 2)))
    return X, np.array(["ash", "beech", "oak"])[(targets[:, 0] > 0) + (targets[:, 1] > 0).astype(int)], targets


def searches():
    """What each search takes: dropout, rows held back, a function of the user's own; every solver, float32."""
    X, labels, targets = data()
    swish = fastmlp.Activation(
        lambda z: z / (1 + math.exp(-z)), lambda z: (1 + math.exp(-z) * (1 + z)) / (1 + math.exp(-z)) ** 2
    )
    classifier = fastmlp.MLPClassifier((20,), max_iter=3, dropout=0.2, early_stopping=True, random_state=0)
    grid = {"hidden_layer_sizes": [(20,), (40, 9)], "activation": ["relu", swish]}
    yield classifier, grid, X, labels
    regressor = fastmlp.MLPRegressor(hidden_layer_sizes=(20,), max_iter=3, random_state=0)
    yield regressor, {"solver": ["sgd", "adam", "lbfgs", "gd"]}, X.astype(np.float32), targets


def score_and_process(model, X, y):
    return {"score": model.score(X, y), "process": os.getpid()}


def search(estimator, grid, X, y, n_jobs=None):
    """All scores of a search, as texts that have every bit; and the processes that predicted."""
    scoring = {"scoring": score_and_process, "refit": "score", "error_score": "raise"}
    found = GridSearchCV(estimator, grid, cv=KFold(WORKERS), n_jobs=n_jobs, **scoring).fit(X, y)
    results = {name: column.tolist() for name, column in found.cv_results_.items() if "split" in name}
    processes = {process for name, column in results.items() if "process" in name for process in column}
    scores = {name: [score.hex() for score in column] for name, column in results.items() if "score" in name}
    return {**scores, "refitted": [found.score(X, y).hex()]}, sorted(processes)


def fit(X, y):
    """One fit and the process that it ran in."""
    with event.install_recorder("numba:compile") as recorder:
        model = fastmlp.MLPClassifier((20,), max_iter=2, random_state=0).fit(X, y)
    return {
        "loss": model.loss_.hex(),
        "process": os.getpid(),
        "threads": numba.get_num_threads(),
        "compiled": len(recorder.buffer),
        "mapped": isinstance(X, np.memmap) and not X.flags.writeable,
    }


@contextlib.contextmanager
def cluster(backend):
    """Two workers on this machine, of one thread each: every back-end has its own way to say so."""
    if backend == "loky":
        with joblib.parallel_config("loky", inner_max_num_threads=1):
            yield
    elif backend == "dask":
        import dask
        from dask.distributed import Client, LocalCluster

        with (
            dask.config.set({"distributed.nanny.pre-spawn-environ.NUMBA_NUM_THREADS": 1}),
            LocalCluster(WORKERS, threads_per_worker=1, dashboard_address=None) as local,
            Client(local),
            joblib.parallel_config("dask"),
        ):
            yield
    else:
        import ray
        from ray.util.joblib import register_ray

        register_ray()
        environment = {"env_vars": {"NUMBA_NUM_THREADS": "1"}}
        with (
            ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, runtime_env=environment),
            joblib.parallel_config("ray"),
        ):
            yield


def report(backend):
    """What this process finds by itself, with all its threads, and what the workers of a cluster find."""
    X, labels, _ = data()
    alone = [fit(X, labels), *(search(*arguments) for arguments in searches())]
    with cluster(backend):
        fits = joblib.Parallel(WORKERS)(joblib.delayed(fit)(X, labels) for _ in range(2 * WORKERS))
        spread = [fits, *(search(*arguments, n_jobs=WORKERS) for arguments in searches())]
    return alone, spread


@pytest.fixture(scope="module", params=BACKENDS)
def found(request):
    """In a process of its own: Ray's back-end changes joblib's classes for good."""
    from cases import run_python

    if BACKENDS[request.param]:
        pytest.importorskip(BACKENDS[request.param])
    lines = run_python("-W", "ignore", __file__, request.param, RAY_USAGE_STATS_ENABLED="0").splitlines()
    return request.param, *json.loads(lines[-1])


def test_searches_have_the_scores_of_one_process(found):
    _, (own, *alone), (_, *spread) = found
    assert len(alone) == len(spread) == 2
    for (expected, _), (scores, processes) in zip(alone, spread):
        assert scores == expected and len(expected) == 1 + WORKERS
        assert own["process"] not in processes


def test_workers_find_kernels_compiled_and_keep_to_their_threads(found):
    """No worker compiles what another process has; one thread each, as they were told; X may be a read-only map."""
    backend, (own, *_), (fits, *_) = found
    for one in fits:
        assert one["loss"] == own["loss"] and one["process"] != own["process"]
        assert (one["compiled"], one["threads"]) == (0, 1)
        assert one["mapped"] or backend != "loky"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(report(sys.argv[1])))
