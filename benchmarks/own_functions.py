"""What does an activation or a loss of the user's own cost, beside the library's?

    python benchmarks/own_functions.py

prints it as a table: the deep network of epochs.py, whose activations take a good part of its time.
"""

import math
import statistics
import time

import fastmlp
from epochs import CASES, LEARNING_RATE
from machine import cores
from suite import Timed, by_profile, limited

CASE = CASES["deep-64x8-b256"]


def logistic(z):
    """As one writes it without thinking of overflow."""
    return 1 / (1 + math.exp(-z))


PIECES = {
    "logistic": {"activation": "logistic"},
    "own logistic": {"activation": fastmlp.Activation(logistic, lambda z: logistic(z) * (1 - logistic(z)))},
    "relu": {"activation": "relu"},
    "own leaky ReLU, by if": {
        "activation": fastmlp.Activation(lambda z: z if z > 0 else 0.1 * z, lambda z: 1.0 if z > 0 else 0.1)
    },
    "own sine, number by number": {"activation": fastmlp.Activation(math.sin, math.cos)},
    "squared error": {"activation": "logistic", "output": "identity"},
    "own quantile loss": {
        "activation": "logistic",
        "output": "identity",
        "loss": fastmlp.Loss(lambda a, y: max(0.9 * (y - a), 0.1 * (a - y)), lambda a, y: -0.9 if a < y else 0.1),
    },
}


class Epoch(Timed):
    """How long is an epoch with functions of one's own? Decides whether to write them in Python."""

    param_names = ["functions"]
    params = [by_profile(["logistic", "own logistic"], list(PIECES))]

    def setup(self, functions):
        limited(cores())
        self.net = fastmlp.Network(CASE.sizes, init="glorot", random_state=0, **PIECES[functions])
        self.data = CASE.data("float32")
        self.train()

    def train(self):
        self.net.train(*self.data, optimizer=fastmlp.SGD(LEARNING_RATE), batch_size=CASE.batch, epochs=1)

    def time_epoch(self, functions):
        self.train()

    time_epoch.pretty_name = "Epoch with own functions"


def main():
    """Print the medians of epochs that take turns."""
    questions = {}
    for name in PIECES:
        questions[name] = Epoch()
        questions[name].setup(name)
    samples = {name: [] for name in PIECES}
    for _ in range(30):
        for name, question in questions.items():
            begin = time.perf_counter()
            question.train()
            samples[name].append(time.perf_counter() - begin)
    print("| functions | ms an epoch |\n| --- | ---: |")
    for name, seconds in samples.items():
        print(f"| {name} | {1e3 * statistics.median(seconds):.1f} |")


if __name__ == "__main__":
    main()
