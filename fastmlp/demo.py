"""`fastmlp demo`: a network on the bundled digits, beside the baselines."""

import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from fastmlp.baselines import Score
    from fastmlp.training import History

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

    import fastmlp
    from fastmlp.baselines import Score, print_scores, score_baselines
    from fastmlp.costs import training_operations

    X_train, X_test, y_train, y_test = split_digits(seed)
    m, n_in = X_train.shape
    sizes = [n_in, *hidden, 10]
    shape = "-".join(map(str, sizes))
    print(f"digits: {m} to train on, {len(X_test)} to test; network {shape}, {threads} thread(s)")
    start = time.perf_counter()
    fastmlp.warmup(("float32",))
    print(f"kernels ready after {time.perf_counter() - start:.2f} s", flush=True)

    net = fastmlp.Network(
        sizes, activation="relu", output="softmax", loss="log_loss", init="he", device="cpu", random_state=seed
    )
    history = net.train(X_train, y_train, optimizer=fastmlp.Adam(), batch_size=BATCH_SIZE, epochs=epochs, progress=True)
    if history.stopped == "interrupted":
        raise KeyboardInterrupt
    start = time.perf_counter()
    predicted = net.forward(X_test).argmax(axis=1)
    predict_seconds = time.perf_counter() - start
    accuracy = float((predicted == y_test).mean())
    speed = m * history.n_epochs / history.seconds
    print(
        f"test accuracy {accuracy:.4f} after {history.n_epochs} epochs in {history.seconds:.3f} s: "
        f"{speed:,.0f} examples/s, {speed * training_operations(sizes) / 1e9:.1f} GFLOP/s\n",
        flush=True,
    )
    scores = [Score("multilayer network", accuracy, history.seconds, predict_seconds)]
    scores += score_baselines(X_train, y_train, X_test, y_test, random_state=seed)
    print_scores(scores)
    if plot:
        draw(plot, scores, history, X_test, y_test, predicted)
        print(f"\ndrew {plot}")


def draw(
    path: Path,
    scores: "list[Score]",
    history: "History",
    X_test: "np.ndarray",
    y_test: "np.ndarray",
    predicted: "np.ndarray",
) -> None:
    """Save a picture: errors of network and baselines, the objective's curve, and some digits, mistakes first."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.8), dpi=120, layout="constrained")
    parts: Any = figure.subfigures(1, 3, width_ratios=(1.25, 1, 1.1))
    left, middle, right = parts

    axes = left.subplots()
    colors = ["tab:blue"] + ["lightgray"] * (len(scores) - 1)
    errors = [100 * (1 - score.score) for score in scores]
    bars = axes.barh([score.name for score in scores], errors, color=colors)
    axes.bar_label(bars, [f"{100 - error:.1f}% right" for error in errors], padding=4)
    axes.set(title="Test error on the digits", xlabel="wrong, % (less is better)", xlim=(0, 1.6 * max(*errors, 1)))
    axes.invert_yaxis()

    axes = middle.subplots()
    axes.semilogy(range(1, history.n_epochs + 1), history.objective, color="tab:blue")
    axes.set(title="Objective while training", xlabel="epoch", ylabel="J(W, b)")

    order = sorted(range(len(y_test)), key=lambda i: bool(predicted[i] == y_test[i]))
    right.suptitle("Test digits as read, mistakes first", fontsize="large")
    for axes, i in zip(right.subplots(3, 5).flat, order):
        wrong = predicted[i] != y_test[i]
        axes.imshow(X_test[i].reshape(8, 8), cmap="gray_r")
        axes.set_title(f"{predicted[i]}, not {y_test[i]}" if wrong else predicted[i], color="tab:red" if wrong else "k")
        axes.set_axis_off()
    for axes in (left.axes[0], middle.axes[0]):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
