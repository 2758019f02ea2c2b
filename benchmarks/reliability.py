"""What do checkpoints and chunks cost, and how soon does Ctrl-C end a training?

    python benchmarks/reliability.py

prints the same as a table.
"""

import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

import fastmlp
from suite import Timed, by_profile

SIZES = {"64-32-10": (64, 32, 10), "784-128-10": (784, 128, 10), "1024-1024-1024-10": (1024, 1024, 1024, 10)}
SOURCES = ("memory", "memory with a checkpoint", "shards", "shuffled memory map")
ROWS = by_profile(5_000, 40_000)


def network(name):
    """A network and an optimizer, as many of their users have them."""
    net = fastmlp.Network(SIZES[name], "relu", "softmax", "log_loss", init="he", random_state=0)
    return net, fastmlp.Adam()


def examples(name, rows):
    """X and class labels."""
    r = np.random.default_rng(0)
    return r.random((rows, SIZES[name][0]), np.float32), r.integers(0, 10, rows)


class Epoch(Timed):
    """How long is an epoch of two when the training is written to a file, or the data come from files?

    Decides how often to write a checkpoint, and whether data should be loaded whole where they fit.
    """

    param_names = ["source", "network"]
    params = [list(SOURCES), by_profile(["64-32-10"], list(SIZES))]

    def setup(self, source, name):
        self.folder = tempfile.TemporaryDirectory()
        X, T = examples(name, ROWS)
        self.given, self.more = (X, T), {}
        if source != "memory":
            paths = [Path(self.folder.name, f"{letter}.npy") for letter in "XT"]
            for path, array in zip(paths, (X, T)):
                np.save(path, array)
        if source == "shards":
            self.given = (fastmlp.Shards(*([path] for path in paths)),)
        elif source == "shuffled memory map":
            self.given = tuple(np.load(path, mmap_mode="r") for path in paths)
            self.more = {"window": ROWS // 4}
        self.checkpoint = Path(self.folder.name, "run.ckpt") if "checkpoint" in source else None
        self.net, self.optimizer = network(name)
        self.train()

    def teardown(self, source, name):
        self.folder.cleanup()

    def train(self):
        if self.checkpoint is not None:
            self.checkpoint.unlink(missing_ok=True)
        self.net.train(
            *self.given, optimizer=self.optimizer, batch_size=128, epochs=2, checkpoint=self.checkpoint, **self.more
        )

    def time_two_epochs(self, source, name):
        self.train()

    time_two_epochs.pretty_name = "Two epochs, by source"


class Interrupt:
    """How long after Ctrl-C does train return? Decides whether people trust the key."""

    param_names = ["network"]
    params = [by_profile(["64-32-10"], list(SIZES))]
    unit = "s"
    timeout = 600

    def setup(self, name):
        self.net, self.optimizer = network(name)
        self.data = examples(name, ROWS)
        self.net.train(*self.data, optimizer=self.optimizer, epochs=1)

    def track_seconds(self, name):
        """The longest of several, in the middle of a long epoch."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        # the same rows again and again, as many as minutes would take
        X, T = (np.lib.stride_tricks.as_strided(a, (10**8, *a.shape[1:]), (0, *a.strides[1:])) for a in self.data)
        longest = 0.0
        try:
            for delay in np.linspace(0.3, 1.0, by_profile(2, 8)):
                sent = []

                def interrupt(sent=sent):
                    sent.append(time.perf_counter())
                    os.kill(os.getpid(), signal.SIGINT)

                timer = threading.Timer(float(delay) + 1.0, interrupt)  # the labels are looked at first
                timer.start()
                history = self.net.train(X, T, optimizer=self.optimizer, batch_size=128, epochs=1, shuffle=False)
                assert history.stopped == "interrupted"
                longest = max(longest, time.perf_counter() - sent[0])
        finally:
            signal.signal(signal.SIGINT, before)
        return longest

    track_seconds.unit = "s"
    track_seconds.pretty_name = "Seconds until Ctrl-C is heard"


def main():
    """Print both tables."""
    print("| two epochs, seconds |", *(f"{source} |" for source in SOURCES))
    print("| --- |", *("---: |" for _ in SOURCES))
    for name in SIZES:
        times = []
        for source in SOURCES:
            question = Epoch()
            question.setup(source, name)
            samples = []
            for _ in range(7):
                begin = time.perf_counter()
                question.train()
                samples.append(time.perf_counter() - begin)
            question.teardown(source, name)
            times.append(sorted(samples)[len(samples) // 2])
        print(f"| {name}, {ROWS:,} rows |", *(f"{seconds:.3f} |" for seconds in times))
    print("\n| network | s until Ctrl-C is heard, at most |\n| --- | ---: |")
    for name in SIZES:
        question = Interrupt()
        question.setup(name)
        print(f"| {name} | {question.track_seconds(name):.2f} |")


if __name__ == "__main__":
    main()
