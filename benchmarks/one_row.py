"""How long does a prediction for a single row take?"""

import functools

import numpy as np

from epochs import Case
from machine import cores
from suite import Timed, by_profile, limited

NETWORKS = {
    "2-8-1": (2, 8, 1),
    "64-32-10": (64, 32, 10),
    "784-128-10": (784, 128, 10),
    "1024-1024-1024-10": (1024, 1024, 1024, 10),
}
CALLS = 500


def fastmlp_forward(weights, biases):
    """`Network.forward`."""
    import fastmlp

    net = fastmlp.Network([len(weights[0]), *map(len, biases)], device="cpu")
    net.weights, net.biases = weights, biases
    return net.forward


def numpy_forward(weights, biases):
    """The forward pass (eq. 7, logistic units) as one writes it by hand in NumPy."""

    def forward(x):
        a = x
        for W, b in zip(weights, biases):
            a = a @ W
            a += b
            np.negative(a, out=a)
            np.exp(a, out=a)
            a += 1
            np.reciprocal(a, out=a)
        return a

    return forward


def torch_forward(weights, biases):
    """The same with PyTorch's tensors, on an array and to an array."""
    import torch

    torch.set_grad_enabled(False)
    layers = [(torch.from_numpy(W), torch.from_numpy(b)) for W, b in zip(weights, biases)]

    def forward(x):
        a = torch.from_numpy(x)
        for W, b in layers:
            a = torch.sigmoid_(torch.addmm(b, a, W))
        return a.numpy()

    return forward


FORWARD = {"fastmlp": fastmlp_forward, "numpy": numpy_forward, "torch": torch_forward}


@functools.cache
def prepared_forward(network, library):
    """A function that predicts one row, once called already."""
    limited(cores())
    sizes = NETWORKS[network]
    x = np.random.default_rng(0).random((1, sizes[0]), dtype=np.float32)
    try:
        forward = functools.partial(FORWARD[library](*Case(sizes, 1, 1, "lecture").parameters("float32")), x)
    except ImportError as error:
        if error.name == "fastmlp":
            raise
        raise NotImplementedError(f"{library} is left out: {error}") from None
    forward()
    return forward


class OneRow(Timed):
    """Can the network answer in a loop of Python, a game or a controller? Decides what a call may cost before the sums.

    Logistic units in float32; the last two are bound by reading the weights.
    """

    param_names = ["network", "library"]
    params = [by_profile(["64-32-10"], list(NETWORKS)), list(FORWARD)]

    def setup(self, network, library):
        self.forward = prepared_forward(network, library)

    def time_500_rows_one_by_one(self, network, library):
        forward = self.forward
        for _ in range(CALLS):
            forward()
