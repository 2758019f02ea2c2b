"""Does training in bfloat16 cost accuracy?

    pip install -e ".[bench]" && python benchmarks/precision.py [--seeds 5] [--epochs 10]

Fashion-MNIST, the networks of CASES (ReLU, softmax, Adam, minibatches of 128), trained from the same weights in the
same order of examples in float32 and in bfloat16: the share of the 10,000 test images that are right, for each seed,
and the time of the epochs. Saved to results/precision.json; the speed beside others is for `peers.py --precision bf16`.
"""

import argparse
import statistics
import time

import numpy as np

from epochs import ADAM_RATE
from machine import RESULTS, describe, save

CASES = {"784-128-10": (784, 128, 10), "784-512-256-10": (784, 512, 256, 10)}
PRECISIONS = "float32", "bf16"
BATCH = 128


def accuracy(sizes, precision, seed, epochs, images):
    """(test images right in %, seconds) of a network after some epochs."""
    import fastmlp

    X, y, test_X, test_y = images
    recipe = {"activation": "relu", "output": "softmax", "loss": "log_loss", "init": "he"}
    network = fastmlp.Network(sizes, precision=precision, random_state=seed, **recipe)
    start = time.perf_counter()
    network.train(X, y, optimizer=fastmlp.Adam(ADAM_RATE), batch_size=BATCH, epochs=epochs)
    seconds = time.perf_counter() - start
    return 100 * float((network.forward(test_X).argmax(axis=1) == test_y).mean()), seconds


def main():
    parser = argparse.ArgumentParser(description="Compare the accuracy of bfloat16 with that of float32.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    args = parser.parse_args()
    import fastmlp
    from fastmlp.datasets import load_fashion_mnist

    fastmlp.warmup(("float32",), PRECISIONS)
    X, y, test_X, test_y = load_fashion_mnist()
    images = X.astype(np.float32) / 255, y.astype(np.int64), test_X.astype(np.float32) / 255, test_y
    rows = {}
    for name, sizes in CASES.items():
        rows[name] = {precision: {"accuracies": [], "seconds": []} for precision in PRECISIONS}
        for seed in range(args.seeds):
            for precision in PRECISIONS:
                right, seconds = accuracy(sizes, precision, seed, args.epochs, images)
                rows[name][precision]["accuracies"].append(right)
                rows[name][precision]["seconds"].append(seconds)
        for precision, row in rows[name].items():
            row["mean"], row["spread"] = (f(row["accuracies"]) for f in (statistics.mean, statistics.stdev))
            row["median_seconds"] = statistics.median(row["seconds"])
            found = f"{row['mean']:.2f} % (standard deviation {row['spread']:.2f}), {row['median_seconds']:.2f} s"
            print(f"{name}, {precision}: {found}", flush=True)
    settings = {"seeds": args.seeds, "epochs": args.epochs, "batch_size": BATCH}
    save(describe() | settings | {"cases": rows}, RESULTS / "precision.json")


if __name__ == "__main__":
    main()
