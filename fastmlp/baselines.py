"""The lecture's baselines: "It is not perfect: compare against randomized features, nearest-neighbors, linear models."

scikit-learn does the work, and is imported only when a baseline is asked for.
"""

import time
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "Score",
    "baseline_classifiers",
    "baseline_regressors",
    "mean_absolute_error",
    "print_scores",
    "score",
    "score_baselines",
]


class Score(NamedTuple):
    """How one model did on test examples, and the seconds that fit and prediction took.

    `score` is the share of examples it got right; of a regression R^2, and then `error` is the mean absolute error.
    """

    name: str
    score: float
    fit_seconds: float
    predict_seconds: float
    error: float | None = None


def baseline_classifiers(
    random_state: int | None = None, max_iter: int = 1000, n_neighbors: int = 5
) -> list[tuple[str, Any]]:
    """Name and unfitted scikit-learn classifier of each baseline.

    Parameters
    ----------
    random_state : int, optional
        Seed of the randomized features.
    max_iter : int, default=1000
        Iterations of the linear models at most.
    n_neighbors : int, default=5
    """
    from sklearn.kernel_approximation import RBFSampler
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline

    random_features = RBFSampler(gamma="scale", n_components=500, random_state=random_state)
    return [
        ("randomized features", make_pipeline(random_features, LogisticRegression(max_iter=max_iter))),
        ("nearest neighbours", KNeighborsClassifier(n_neighbors)),
        ("linear model", LogisticRegression(max_iter=max_iter)),
    ]


def baseline_regressors(random_state: int | None = None, n_neighbors: int = 5) -> list[tuple[str, Any]]:
    """Name and unfitted scikit-learn regressor of each baseline.

    Parameters
    ----------
    random_state : int, optional
        Seed of the randomized features.
    n_neighbors : int, default=5
    """
    from sklearn.kernel_approximation import RBFSampler
    from sklearn.linear_model import Ridge
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.pipeline import make_pipeline

    random_features = RBFSampler(gamma="scale", n_components=500, random_state=random_state)
    return [
        ("randomized features", make_pipeline(random_features, Ridge())),
        ("nearest neighbours", KNeighborsRegressor(n_neighbors)),
        ("linear model", Ridge()),
    ]


def score(y: np.ndarray, predicted: np.ndarray, regression: bool = False) -> float:
    """The share of labels that are right; R^2 of a regression, NaN where y is constant."""
    if not regression:
        return float(np.mean(y == predicted))
    total = float(np.sum((y - np.mean(y)) ** 2))
    return 1 - float(np.sum((y - predicted) ** 2)) / total if total > 0 else float("nan")


def mean_absolute_error(y: np.ndarray, predicted: np.ndarray) -> float:
    """The mean distance of the predictions, in the unit of y."""
    return float(np.mean(np.abs(y - predicted)))


def score_baselines(
    X_train: Any,
    y_train: np.ndarray,
    X_test: Any,
    y_test: np.ndarray,
    random_state: int | None = None,
    models: Iterable[tuple[str, Any]] | None = None,
    regression: bool = False,
) -> list[Score]:
    """Fit each baseline on the training examples and score it on the test examples.

    Parameters
    ----------
    X_train, X_test : {ndarray, sparse matrix} of shape (m, n_in)
        Inputs, already scaled.
    y_train, y_test : ndarray of shape (m,)
        Class labels, or numbers of a regression.
    random_state : int, optional
        Seed of the randomized features.
    models : iterable of (str, estimator), optional
        Names and unfitted estimators, in place of the baselines.
    regression : bool, default=False
        Whether y has numbers that are to be met, not labels.

    Returns
    -------
    scores : list of Score
        One a baseline, in their order.
    """
    if models is None:
        models = baseline_regressors(random_state) if regression else baseline_classifiers(random_state)
    scores = []
    for name, model in models:
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a linear model that would like more iterations
            model.fit(X_train, y_train)
        fitted = time.perf_counter()
        predicted = model.predict(X_test)
        end = time.perf_counter()
        error = mean_absolute_error(y_test, predicted) if regression else None
        scores.append(Score(name, score(y_test, predicted, regression), fitted - start, end - fitted, error))
    return scores


def print_scores(scores: Sequence[Score]) -> None:
    """Print one row a model."""
    regression = any(found.error is not None for found in scores)
    measure = f"{'test R^2':>14}{'mean abs error':>16}" if regression else f"{'test accuracy':>14}"
    print(f"{'':22}{measure}{'fit s':>10}{'predict s':>12}")
    for name, value, fit_seconds, predict_seconds, error in scores:
        distance = f"{error:16.4g}" if regression else ""
        print(f"{name:22}{value:14.4f}{distance}{fit_seconds:10.3f}{predict_seconds:12.4f}")
