"""What the questions of the asv suite share: profiles, prepared peers, accuracy.

The environment variable FASTMLP_BENCHMARKS chooses the profile: "quick", the default, asks every question once and
small, within minutes; "full" is what the committed results and the dashboard show.

asv runs every combination of parameters in a process of its own, and `setup` before every timed call: `prepared` makes
and warms up a peer at the first and hands it out at the others.
"""

import functools
import os
from pathlib import Path

import numpy as np

from epochs import ON_GPU, PEERS
from machine import confine, cores

PROFILE = os.environ.get("FASTMLP_BENCHMARKS", "quick")
if PROFILE not in ("quick", "full"):
    raise ValueError(f"FASTMLP_BENCHMARKS is {PROFILE!r}; 'quick' and 'full' are allowed")

EVERYONE = {**PEERS, **(ON_GPU if Path("/dev/nvidiactl").exists() else {})}
# "torch-eager" is PyTorch as in its tutorials: the grids leave it to the ten networks, where it is never the fastest
RIVALS = [peer for peer in EVERYONE if peer != "torch-eager"]


def by_profile(quick, full):
    """The one of two lists of parameters that the profile asks for."""
    return full if PROFILE == "full" else quick


@functools.cache
def limited(threads):
    """The limits of this process's thread pools; the first call sets them."""
    return confine(threads)


@functools.cache
def prepared(peer, case, dtype="float32", threads=None):
    """(train, parameters) of a peer (see epochs.py), compiled and warm.

    Raises
    ------
    NotImplementedError
        When the peer, its device or the data are not there; asv leaves the combination out.
    """
    limited(threads or cores())
    try:
        train, parameters = EVERYONE[peer](case, dtype, threads or cores())
    except (ImportError, OSError) as error:
        if getattr(error, "name", None) == "fastmlp":
            raise
        raise NotImplementedError(f"{peer} is left out: {error}") from None
    train(1)
    return train, parameters


def accuracy(weights, biases, X, y):
    """The share of the examples whose class a network of ReLU units and softmax, in plain NumPy, finds."""
    a = np.asarray(X, np.float32)
    for W, b in zip(weights[:-1], biases[:-1]):
        a = np.maximum(a @ W + b, 0)
    return float(((a @ weights[-1] + biases[-1]).argmax(axis=1) == y).mean())


class Timed:
    """How a time is taken: calls one by one, after some that do not count, in each of two processes.

    Where a call takes less than a millisecond, `setup` sets `number`, the calls that make up a sample.
    """

    number = 1
    repeat = (5, 1000, 1.0)
    warmup_time = 0.2
    processes = 2
    timeout = 600
