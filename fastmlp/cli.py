"""The command line: `python -m fastmlp demo` trains a network on the bundled digits, beside the baselines.

Arguments are parsed before anything heavy is imported. Errors are one line on standard error; the exit code is 0, 1
for a demo that could not be run, 2 for wrong arguments, 130 after Ctrl-C.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import numpy as np

    from fastmlp.baselines import Score
    from fastmlp.training import History

__all__ = ["main"]

BATCH_SIZE = 32
PICTURES = (".pdf", ".png", ".svg")


class DemoError(Exception):
    """The demo cannot be run; the message says why in one line."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def positive(text: str) -> int:
    """Argument type: an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def seed(text: str) -> int:
    """Argument type: a seed within the range that NumPy and scikit-learn share."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer from 0 to 2**32 - 1")
    return int(text)


def picture(text: str) -> Path:
    """Argument type: a picture file that can be written."""
    path = Path(text)
    if path.suffix.lower() not in PICTURES:
        raise argparse.ArgumentTypeError(f"{text!r} does not end in {', '.join(PICTURES)}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {str(path.parent)!r}")
    return path


def build_parser() -> Parser:
    """The parser of every command."""
    parser = Parser(prog="fastmlp", description="Multilayer networks trained on the CPU at the chip's limit.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    text = "train on scikit-learn's bundled digits and compare with three baselines"
    demo = commands.add_parser("demo", help=text, description=text[0].upper() + text[1:] + ".")
    demo.add_argument("--epochs", type=positive, default=50, metavar="N", help="passes over the data (default: 50)")
    widths = "widths of the hidden layers (default: 128)"
    demo.add_argument("--hidden", type=positive, nargs="*", default=[128], metavar="WIDTH", help=widths)
    demo.add_argument("--threads", type=positive, metavar="K", help="threads to train with (default: all cores)")
    demo.add_argument("--seed", type=seed, default=0, metavar="S", help="seed of split, start and order (default: 0)")
    demo.add_argument("--plot", type=picture, metavar="FILE", help=f"draw the result ({', '.join(PICTURES)})")
    return parser


def set_threads(threads: int | None) -> int:
    """Let Numba use `threads` threads; returns the number in use."""
    import numba

    if threads is not None:
        try:
            numba.set_num_threads(threads)
        except ValueError as error:
            raise DemoError(f"--threads {threads}: {error}") from error
    return int(numba.get_num_threads())


def split_digits(random_state: int) -> "tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]":
    """The bundled 8x8 digits, a quarter of them kept for the test: X_train, X_test, y_train, y_test, X in [0, 1]."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    X, y = load_digits(return_X_y=True)
    split = train_test_split((X / 16).astype("float32"), y, test_size=0.25, stratify=y, random_state=random_state)
    X_train, X_test, y_train, y_test = split
    return X_train, X_test, y_train, y_test


def training_flops(sizes: Sequence[int]) -> int:
    """Floating-point operations to train on one example: three products a layer, but none back to the inputs."""
    weights = [n_in * n_out for n_in, n_out in zip(sizes, sizes[1:])]
    return 6 * sum(weights) - 2 * weights[0]


def demo(args: argparse.Namespace) -> int:
    """Train, score, compare, draw; returns the exit code."""
    if args.plot and importlib.util.find_spec("matplotlib") is None:
        raise DemoError("--plot needs matplotlib: pip install 'fastmlp[plot]'")
    threads = set_threads(args.threads)

    import fastmlp
    from fastmlp.baselines import Score, score_baselines

    X_train, X_test, y_train, y_test = split_digits(args.seed)
    m, n_in = X_train.shape
    sizes = [n_in, *args.hidden, 10]
    shape = "-".join(map(str, sizes))
    print(f"digits: {m} to train on, {len(X_test)} to test; network {shape}, {threads} thread(s)")
    start = time.perf_counter()
    fastmlp.warmup(("float32",))
    print(f"kernels ready after {time.perf_counter() - start:.2f} s", flush=True)

    net = fastmlp.Network(
        sizes, activation="relu", output="softmax", loss="log_loss", init="he", device="cpu", random_state=args.seed
    )
    history = net.train(
        X_train, y_train, optimizer=fastmlp.Adam(), batch_size=BATCH_SIZE, epochs=args.epochs, progress=True
    )
    if history.stopped == "interrupted":
        raise KeyboardInterrupt
    start = time.perf_counter()
    predicted = net.forward(X_test).argmax(axis=1)
    predict_seconds = time.perf_counter() - start
    accuracy = float((predicted == y_test).mean())
    speed = m * history.n_epochs / history.seconds
    print(
        f"test accuracy {accuracy:.4f} after {history.n_epochs} epochs in {history.seconds:.3f} s: "
        f"{speed:,.0f} examples/s, {speed * training_flops(sizes) / 1e9:.1f} GFLOP/s\n",
        flush=True,
    )
    scores = [Score("multilayer network", accuracy, history.seconds, predict_seconds)]
    scores += score_baselines(X_train, y_train, X_test, y_test, random_state=args.seed)
    print_scores(scores)
    if args.plot:
        draw(args.plot, scores, history, X_test, y_test, predicted)
        print(f"\ndrew {args.plot}")
    return 0


def print_scores(scores: "list[Score]") -> None:
    """Print one row a model."""
    print(f"{'':22}{'test accuracy':>14}{'fit s':>10}{'predict s':>12}")
    for name, accuracy, fit_seconds, predict_seconds in scores:
        print(f"{name:22}{accuracy:14.4f}{fit_seconds:10.3f}{predict_seconds:12.4f}")


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
    errors = [100 * (1 - score.accuracy) for score in scores]
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
    try:
        figure.savefig(path)
    except OSError as error:
        raise DemoError(f"--plot {path}: {error.strerror}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (by default the process's own) ask for; returns the exit code."""
    args = build_parser().parse_args(arguments)
    try:
        return demo(args)
    except DemoError as error:
        print(f"fastmlp: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("fastmlp: interrupted", file=sys.stderr)
        return 130
