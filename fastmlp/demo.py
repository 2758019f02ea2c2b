"""`fastmlp demo`: a network on the bundled digits, beside the baselines."""

import importlib.util
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from fastmlp.baselines import Comparison

BATCH_SIZE = 32


def split_digits(random_state: int) -> "tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]":
    """The bundled 8x8 digits, a quarter of them kept for the test: X_train, X_test, y_train, y_test, X in [0, 1]."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    X, y = load_digits(return_X_y=True)
    split = train_test_split((X / 16).astype("float32"), y, test_size=0.25, stratify=y, random_state=random_state)
    X_train, X_test, y_train, y_test = split
    return X_train, X_test, y_train, y_test


def demo(epochs: int, hidden: Sequence[int], seed: int, plot: Path | None, threads: int) -> None:
    """Train, score, compare, draw.

    Raises
    ------
    ValueError
        When a picture is asked for and there is no matplotlib.
    OSError
        When the picture cannot be written.
    """
    if plot and importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--plot needs matplotlib: pip install 'fastmlp[plot]'")

    from sklearn.exceptions import ConvergenceWarning

    import fastmlp
    from fastmlp.baselines import compare_fitted, fit_network
    from fastmlp.costs import training_operations

    X_train, X_test, y_train, y_test = split_digits(seed)
    m, n_in = X_train.shape
    sizes = [n_in, *hidden, 10]
    shape = "-".join(map(str, sizes))
    print(f"digits: {m} to train on, {len(X_test)} to test; network {shape}, {threads} thread(s)")
    settings = {"batch_size": BATCH_SIZE, "n_iter_no_change": epochs, "init": "he", "random_state": seed}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it ends after as many epochs as were asked for
        start = time.perf_counter()
        fit_network(fastmlp.MLPClassifier(hidden, max_iter=1, **settings), X_train, y_train)
        print(f"kernels ready after {time.perf_counter() - start:.2f} s", flush=True)
        classifier = fastmlp.MLPClassifier(hidden, max_iter=epochs, verbose=True, **settings)
        start = time.perf_counter()
        fit_network(classifier, X_train, y_train)
        seconds = time.perf_counter() - start
    predicted = classifier.predict(X_test)
    speed = m * epochs / seconds
    print(
        f"test accuracy {(predicted == y_test).mean():.4f} after {epochs} epochs in {seconds:.3f} s: "
        f"{speed:,.0f} examples/s, {speed * training_operations(sizes) / 1e9:.1f} GFLOP/s\n",
        flush=True,
    )
    comparison = compare_fitted(classifier, seconds, X_train, y_train, (X_test, y_test), seed)
    print(comparison)
    if plot:
        draw(plot, comparison, classifier.loss_curve_, X_test, y_test, predicted)
        print(f"\ndrew {plot}")


def draw(
    path: Path,
    comparison: "Comparison",
    loss_curve: Sequence[float],
    X_test: "np.ndarray",
    y_test: "np.ndarray",
    predicted: "np.ndarray",
) -> None:
    """Save a picture: network and baselines, the objective's curve, and some digits, mistakes first."""
    from matplotlib.figure import Figure

    from fastmlp.displays import RED, BaselineDisplay, LossCurveDisplay

    figure = Figure(figsize=(13, 3.8), dpi=120, layout="constrained")
    parts: Any = figure.subfigures(1, 3, width_ratios=(1.6, 0.9, 1))
    left, middle, right = parts
    BaselineDisplay(comparison).plot(left.subplots())
    left.suptitle("Accuracy on test digits, and fit time", fontsize="large")
    LossCurveDisplay({"training": loss_curve}, loss_name="objective J(W, b)").plot(middle.subplots())
    middle.suptitle("Objective while training", fontsize="large")

    order = sorted(range(len(y_test)), key=lambda i: bool(predicted[i] == y_test[i]))
    right.suptitle("Test digits as read, mistakes first", fontsize="large")
    for axes, i in zip(right.subplots(3, 5).flat, order):
        wrong = predicted[i] != y_test[i]
        axes.imshow(X_test[i].reshape(8, 8), cmap="gray_r")
        axes.set_title(f"{predicted[i]}, not {y_test[i]}" if wrong else predicted[i], color=RED if wrong else "k")
        axes.set_axis_off()
    figure.savefig(path)
