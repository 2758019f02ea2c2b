"""How much faster than scikit-learn's are fastmlp's estimators, for those who change one import?

    python benchmarks/estimators.py [--rounds 3] [--output FILE]

    fit digits       1,797 x 64 digits, hidden (100,), Adam, batch 200, 30 epochs
    fit images       10,000 x 784 random images, hidden (256, 128), Adam, batch 200, 3 epochs
    predict 1        one digit; 32 of them; 1,000
    predict 100000   100,000 rows of 64 numbers, by the digits' classifier

each in float64 and float32, in a process of its own, the two libraries in turn; medians over rounds.
"""

import argparse
import json
import statistics
import sys
import time
import warnings

import numpy as np

from machine import HERE, RESULTS, ChildError, ask, cores, describe, environment, save

LIBRARIES = ("fastmlp", "sklearn")
QUESTIONS = ("fit digits", "fit images", "predict 1", "predict 32", "predict 1000", "predict 100000")
DTYPES = ("float64", "float32")


def classifier(library, **settings):
    """The library's MLPClassifier."""
    if library == "fastmlp":
        from fastmlp import MLPClassifier
    else:
        from sklearn.neural_network import MLPClassifier
    return MLPClassifier(random_state=0, **settings)


def seconds(call, least):
    """Median time of a call, repeated for about so many seconds, after one that is not counted."""
    call()
    times = []
    while sum(times) < least or len(times) < 3:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def child(library, question, dtype):
    """The median seconds of what is asked."""
    from sklearn.datasets import load_digits

    warnings.simplefilter("ignore")
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(dtype)
    if question == "fit digits":
        estimator = classifier(library, max_iter=30)
        return seconds(lambda: estimator.fit(X, y), 2)
    rng = np.random.default_rng(0)
    if question == "fit images":
        X, y = rng.random((10000, 784), np.float32).astype(dtype), rng.integers(0, 10, 10000)
        estimator = classifier(library, hidden_layer_sizes=(256, 128), max_iter=3)
        return seconds(lambda: estimator.fit(X, y), 2)
    estimator = classifier(library, max_iter=3).fit(X, y)
    count = int(question.split()[1])
    rows = X[:count] if count < len(X) else rng.random((count, 64), np.float32).astype(dtype)
    return seconds(lambda: estimator.predict(rows), 1)


def main():
    parser = argparse.ArgumentParser(description="Time fastmlp's estimators beside scikit-learn's.")
    parser.add_argument("--rounds", type=int, default=3, help="processes a figure is the median of")
    parser.add_argument("--output", default=RESULTS / "estimators.json", metavar="FILE", help="JSON file to write")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(child(*args.child)))
        return
    result, env = describe(), environment(cores())
    print(f"{'ms':16}{'':9}{'fastmlp':>10}{'sklearn':>10}{'lead':>8}")
    for question in QUESTIONS:
        for dtype in DTYPES:
            times = {library: [] for library in LIBRARIES}
            for _ in range(args.rounds):
                for library in LIBRARIES:
                    times[library].append(ask(HERE / "estimators.py", "--child", library, question, dtype, env=env))
            ours, theirs = (statistics.median(times[library]) for library in LIBRARIES)
            result[f"{question} {dtype}"] = {"fastmlp": ours, "sklearn": theirs, "lead": theirs / ours, "times": times}
            print(f"{question:16}{dtype:9}{ours * 1e3:10.3f}{theirs * 1e3:10.3f}{theirs / ours:7.2f}x", flush=True)
    save(result, args.output)


if __name__ == "__main__":
    try:
        main()
    except ChildError as error:
        sys.exit(f"estimators.py: a child process failed: {error}")
