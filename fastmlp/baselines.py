"""The lecture's baselines: "It is not perfect: compare against randomized features, nearest-neighbors, linear models."

scikit-learn does the work, and is imported only when a baseline is asked for.
"""

import time
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Score", "baseline_classifiers", "score_baselines"]


class Score(NamedTuple):
    """How one model did: the share of test examples it got right, and the seconds that fit and prediction took."""

    name: str
    accuracy: float
    fit_seconds: float
    predict_seconds: float


def baseline_classifiers(random_state: int | None = None) -> list[tuple[str, Any]]:
    """Name and unfitted scikit-learn classifier of each baseline.

    Parameters
    ----------
    random_state : int, optional
        Seed of the randomized features.
    """
    from sklearn.kernel_approximation import RBFSampler
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline

    random_features = RBFSampler(gamma="scale", n_components=500, random_state=random_state)
    return [
        ("randomized features", make_pipeline(random_features, LogisticRegression(max_iter=1000))),
        ("nearest neighbours", KNeighborsClassifier()),
        ("linear model", LogisticRegression(max_iter=1000)),
    ]


def score_baselines(
    X_train: np.ndarray,
    y_train: np.ndarray,
    X_test: np.ndarray,
    y_test: np.ndarray,
    random_state: int | None = None,
) -> list[Score]:
    """Fit each baseline on the training examples and score it on the test examples.

    Parameters
    ----------
    X_train, X_test : ndarray of shape (m, n_in)
        Inputs, already scaled.
    y_train, y_test : ndarray of shape (m,)
        Class labels.
    random_state : int, optional
        Seed of the randomized features.

    Returns
    -------
    scores : list of Score
        One a baseline, in the order of `baseline_classifiers`.
    """
    scores = []
    for name, model in baseline_classifiers(random_state):
        start = time.perf_counter()
        model.fit(X_train, y_train)
        fitted = time.perf_counter()
        predicted = model.predict(X_test)
        end = time.perf_counter()
        scores.append(Score(name, float(np.mean(predicted == y_test)), fitted - start, end - fitted))
    return scores
