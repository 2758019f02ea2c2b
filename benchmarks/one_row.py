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


def jax_forward(weights, biases):
    """The same, compiled by JAX, on an array and to an array."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    layers = list(zip(weights, biases))

    @jax.jit
    def forward(a):
        for W, b in layers:
            a = jax.nn.sigmoid(a @ W + b)
        return a

    return lambda x: np.asarray(forward(x))


FORWARD = {"fastmlp": fastmlp_forward, "numpy": numpy_forward, "torch": torch_forward, "jax": jax_forward}


@functools.cache
def prepared_forward(library, network):
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

    Logistic units in float32; the last two networks are bound by reading the weights.
    """

    number = 500
    param_names = ["library", "network"]
    params = [list(FORWARD), by_profile(["64-32-10"], list(NETWORKS))]

    def setup(self, library, network):
        self.forward = prepared_forward(library, network)

    def time_forward(self, library, network):
        self.forward()

    time_forward.pretty_name = "One row"
