"""How long does one epoch take, for fastmlp and for each peer as its best user would write it?

    python benchmarks/epochs.py PEER CASE [--threads 2] [--dtype float32] [--samples 5]

times one peer on one case in this process; `peers.py` runs all of them in turn and makes the table. A peer is a
function (case, dtype, threads) -> (train, parameters): train(k) trains k shuffled epochs, and parameters() gives the
weights and biases as NumPy arrays. The recipes:

    lecture   logistic units everywhere, squared error (eq. 4), plain SGD, or gradient descent with the full batch
    practice  ReLU, softmax and cross-entropy, Adam: what users run

scikit-learn has no logistic output for squared error: there it trains an identity output, for slightly less work.
"""

import argparse
import functools
import json
import math
import time
import warnings
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from machine import confine, cores

LEARNING_RATE = 0.01
BETA_1, BETA_2, EPSILON, ADAM_RATE = 0.9, 0.999, 1e-8, 0.001
GRAPH_STEPS = 200  # of training in a CUDA graph of PyTorch, at most


class AbsentError(ImportError):
    """A peer, or the device that it runs on, is not there; the message says what is missing."""


class Case(NamedTuple):
    """One network, minibatch size, number of examples and recipe; the last minibatch of every case is a full one."""

    sizes: tuple[int, ...]
    batch: int
    examples: int
    recipe: str

    @property
    def practice(self):
        return self.recipe == "practice"

    @property
    def steps(self):
        """Minibatches of one epoch."""
        return self.examples // self.batch

    @property
    def flops(self):
        """Floating-point operations of one epoch: three products a layer, but no error sent back to the inputs."""
        weights = [n_in * n_out for n_in, n_out in zip(self.sizes, self.sizes[1:])]
        return self.examples * (6 * sum(weights) - 2 * weights[0])

    def data(self, dtype):
        """Random inputs, and the targets of random labels: one-hot rows, or one column of zeros and ones."""
        rng = np.random.default_rng(0)
        X = rng.standard_normal((self.examples, self.sizes[0]), dtype=np.float32).astype(dtype, copy=False)
        if self.sizes[-1] == 1:
            return X, (X[:, :1] > 0).astype(dtype)
        return X, np.eye(self.sizes[-1], dtype=dtype)[rng.integers(0, self.sizes[-1], self.examples)]

    def parameters(self, dtype):
        """Small random weights, and biases of zero."""
        rng = np.random.default_rng(1)
        shapes = zip(self.sizes, self.sizes[1:])
        weights = [(0.05 * rng.standard_normal(shape)).astype(dtype) for shape in shapes]
        return weights, [np.zeros(n, dtype) for n in self.sizes[1:]]


class FashionMNIST(Case):
    """A network that learns to tell the clothes of Fashion-MNIST apart."""

    def data(self, dtype):
        """The training images, scaled to [0, 1], and one-hot rows."""
        from fastmlp.datasets import load_fashion_mnist

        X, y, *_ = load_fashion_mnist()
        return X[: self.examples].astype(dtype) / 255, np.eye(10, dtype=dtype)[y[: self.examples]]


CASES = {
    "xor-2-8-1-b32": Case((2, 8, 1), 32, 3200, "lecture"),
    "digits-64-32-10-b32": Case((64, 32, 10), 32, 1792, "lecture"),
    "mnist-784-128-10-b32": Case((784, 128, 10), 32, 9600, "lecture"),
    "mnist-784-128-10-b128": Case((784, 128, 10), 128, 12800, "lecture"),
    "mnist-784-512-256-10-b128": Case((784, 512, 256, 10), 128, 6400, "lecture"),
    "deep-64x8-b256": Case((64,) * 8 + (10,), 256, 25600, "lecture"),
    "wide-1024x3-b256": Case((1024, 1024, 1024, 10), 256, 2560, "lecture"),
    "fullbatch-784-300-10-m10000": Case((784, 300, 10), 10000, 10000, "lecture"),
    "practice-64-100-10-b200": Case((64, 100, 10), 200, 1600, "practice"),
    "practice-784-256-128-10-b128": Case((784, 256, 128, 10), 128, 6400, "practice"),
}


def fastmlp_network(case, dtype, device="cpu", precision="float32"):
    """fastmlp's network for a case, its optimizer, and the other arguments of `train`."""
    import fastmlp

    if case.practice:
        recipe = {"activation": "relu", "output": "softmax", "loss": "log_loss"}
        optimizer = fastmlp.Adam(ADAM_RATE, BETA_1, BETA_2, EPSILON)
    else:
        recipe = {"activation": "logistic", "output": "logistic", "loss": "squared_error"}
        full_batch = case.batch == case.examples
        optimizer = (fastmlp.GradientDescent if full_batch else fastmlp.SGD)(LEARNING_RATE)
    batch = {} if isinstance(optimizer, fastmlp.GradientDescent) else {"batch_size": case.batch}
    try:
        where = {"device": device, "precision": precision}
        net = fastmlp.Network(case.sizes, dtype=dtype, random_state=0, **where, **recipe)
    except ValueError as error:
        raise AbsentError(str(error)) from None
    net.weights, net.biases = case.parameters(dtype)
    return net, optimizer, batch


def fastmlp_epochs(case, dtype, threads, device="cpu", precision="float32"):
    """fastmlp: `Network.train`."""
    import numba

    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    net, optimizer, batch = fastmlp_network(case, dtype, device, precision)
    X, T = case.data(dtype)

    def train(epochs):
        net.train(X, T, optimizer=optimizer, epochs=epochs, **batch)

    return train, lambda: (net.weights, net.biases)


def jax_epoch(case, dtype, device, precision="float32"):
    """JAX: an epoch, (state, key, X, T) -> (state, key), `lax.scan` over its minibatches; and its first state."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", dtype == "float64")
    jax.config.update("jax_platforms", device)
    # a GPU would multiply float32 as TF32 if it were not told, and by "bfloat16", which means the default, too
    how = {"float32": "highest", "tf32": "tensorfloat32", "bf16": "BF16_BF16_F32"}[precision]
    jax.config.update("jax_default_matmul_precision", how)
    try:
        jax.devices()
    except RuntimeError as error:
        raise AbsentError(str(error)) from None
    tree = jax.tree.map

    def loss(parameters, x, t):
        a = x
        for l, (W, b) in enumerate(parameters, start=1):
            z = a @ W + b
            if case.practice:
                a = jax.nn.relu(z) if l < len(parameters) else z
            else:
                a = jax.nn.sigmoid(z)
        if case.practice:
            return -(t * jax.nn.log_softmax(a)).sum(axis=1).mean()
        return 0.5 * ((a - t) ** 2).sum(axis=1).mean()

    def sgd(state, batch):
        parameters, m, v, step = state
        g = jax.grad(loss)(parameters, *batch)
        return (tree(lambda p, g: p - LEARNING_RATE * g, parameters, g), m, v, step), None

    def adam(state, batch):
        parameters, m, v, step = state
        g = jax.grad(loss)(parameters, *batch)
        step = step + 1
        m = tree(lambda m, g: BETA_1 * m + (1 - BETA_1) * g, m, g)
        v = tree(lambda v, g: BETA_2 * v + (1 - BETA_2) * g * g, v, g)
        rate = ADAM_RATE * jnp.sqrt(1 - BETA_2**step) / (1 - BETA_1**step)
        parameters = tree(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + EPSILON), parameters, m, v)
        return (parameters, m, v, step), None

    def epoch(state, key, X, T):
        key, shuffling = jax.random.split(key)
        order = jax.random.permutation(shuffling, case.examples)
        batches = tree(lambda A: A[order].reshape(-1, case.batch, A.shape[1]), (X, T))
        return jax.lax.scan(adam if case.practice else sgd, state, batches)[0], key

    parameters = tree(jnp.asarray, list(zip(*case.parameters(dtype))))
    moments = [tree(jnp.zeros_like, parameters) for _ in range(2)]
    return epoch, (parameters, *moments, jnp.zeros((), dtype))


def jax_epochs(case, dtype, threads, device="cpu", precision="float32"):
    """JAX: one jitted call an epoch, parameters donated."""
    import jax
    import jax.numpy as jnp

    epoch, state = jax_epoch(case, dtype, device, precision)
    X, T = map(jnp.asarray, case.data(dtype))
    key = jax.random.key(0)
    compiled = jax.jit(epoch, donate_argnums=0)

    def train(epochs):
        nonlocal state, key
        for _ in range(epochs):
            state, key = compiled(state, key, X, T)
        jax.block_until_ready(state)

    return train, lambda: tuple(zip(*((np.asarray(W), np.asarray(b)) for W, b in state[0])))


def by_hand(case, arrays, ops):
    """Backpropagation written out over whole arrays, for NumPy's arrays and PyTorch's tensors alike."""
    X, T, weights, biases = arrays
    parameters = weights + biases
    L, m = len(weights), case.batch
    first, second = ([ops.zeros_like(p) for p in parameters] for _ in range(2))
    step = 0

    def update(k, g):
        p = parameters[k]
        if not case.practice:
            p -= LEARNING_RATE * g
            return
        first[k] *= BETA_1
        first[k] += (1 - BETA_1) * g
        second[k] *= BETA_2
        second[k] += (1 - BETA_2) * g * g
        rate = ADAM_RATE * math.sqrt(1 - BETA_2**step) / (1 - BETA_1**step)
        p -= rate * first[k] / (ops.sqrt(second[k]) + EPSILON)

    def minibatch(x, t):
        nonlocal step
        step += 1
        a = [x]
        for l in range(L):
            z = ops.affine(a[l], weights[l], biases[l])
            f = ops.logistic if not case.practice else ops.softmax if l == L - 1 else ops.relu
            a.append(f(z))
        delta = a[L] - t if case.practice else (a[L] - t) * a[L] * (1 - a[L])
        for l in reversed(range(L)):
            U, V = a[l].T @ delta / m, delta.sum(0) / m
            if l:
                back = delta @ weights[l].T
                delta = back * (a[l] > 0) if case.practice else back * a[l] * (1 - a[l])
            update(l, U)
            update(L + l, V)

    def train(epochs):
        for _ in range(epochs):
            order = ops.permutation(case.examples)
            shuffled_X, shuffled_T = X[order], T[order]
            for s in range(0, case.examples, m):
                minibatch(shuffled_X[s : s + m], shuffled_T[s : s + m])

    def found():
        return [ops.to_numpy(W) for W in weights], [ops.to_numpy(b) for b in biases]

    return train, found


def numpy_epochs(case, dtype, threads):
    """NumPy: backpropagation by hand, in place where that saves an array."""

    def affine(a, W, b):
        z = a @ W
        z += b
        return z

    def logistic(z):
        np.negative(z, out=z)
        np.exp(z, out=z)
        z += 1
        return np.reciprocal(z, out=z)

    def softmax(z):
        z -= z.max(axis=1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(axis=1, keepdims=True)
        return z

    ops = SimpleNamespace(
        affine=affine,
        logistic=logistic,
        relu=lambda z: np.maximum(z, 0, out=z),
        softmax=softmax,
        sqrt=np.sqrt,
        zeros_like=np.zeros_like,
        permutation=np.random.default_rng(2).permutation,
        to_numpy=np.asarray,
    )
    return by_hand(case, (*case.data(dtype), *case.parameters(dtype)), ops)


def torch_precision(device, precision):
    """A context in which PyTorch multiplies in a precision: autocast, or TF32 on a GPU."""
    import torch

    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")


def torch_raw_epochs(case, dtype, threads, device="cpu", precision="float32"):
    """PyTorch's tensors: backpropagation by hand, no autograd."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise AbsentError("PyTorch finds no GPU")
    torch.set_num_threads(threads)
    X, T = (torch.from_numpy(A).to(device) for A in case.data(dtype))
    weights, biases = ([torch.from_numpy(p).to(device) for p in arrays] for arrays in case.parameters(dtype))
    ops = SimpleNamespace(
        affine=lambda a, W, b: torch.addmm(b, a, W),
        logistic=torch.sigmoid_,
        relu=torch.relu_,
        softmax=lambda z: z.softmax(1),
        sqrt=torch.sqrt,
        zeros_like=torch.zeros_like,
        permutation=functools.partial(torch.randperm, device=device),
        to_numpy=lambda tensor: tensor.cpu().numpy(),
    )
    train_epochs, found = by_hand(case, (X, T, weights, biases), ops)

    def train(epochs):
        with torch.no_grad(), torch_precision(device, precision):
            train_epochs(epochs)
        if device == "cuda":
            torch.cuda.synchronize()

    return train, found


def torch_eager_epochs(case, dtype, threads, device="cpu", how="eager", precision="float32"):
    """PyTorch as in its tutorials: nn.Module, autograd, torch.optim.

    how: "eager" as it stands, "compile" with torch.compile, "graph" with an epoch's steps in one CUDA graph, or in
    several, of GRAPH_STEPS each.
    """
    import torch
    from torch import nn

    if device == "cuda" and not torch.cuda.is_available():
        raise AbsentError("PyTorch finds no GPU")
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    X, T = (torch.from_numpy(A).to(device) for A in case.data(dtype))
    layers = []
    for n_in, n_out in zip(case.sizes, case.sizes[1:]):
        layers += [nn.Linear(n_in, n_out), nn.ReLU() if case.practice else nn.Sigmoid()]
    model = nn.Sequential(*layers[:-1] if case.practice else layers).to(device, X.dtype)
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for layer, W, b in zip(linear, *case.parameters(dtype)):
            layer.weight.copy_(torch.from_numpy(W.T))
            layer.bias.copy_(torch.from_numpy(b))
    if case.practice:
        loss = nn.functional.cross_entropy
        optimizer = torch.optim.Adam(
            model.parameters(), ADAM_RATE, (BETA_1, BETA_2), EPSILON, capturable=how == "graph", fused=device == "cuda"
        )
    else:
        optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, fused=device == "cuda")

        def loss(output, t):
            return 0.5 * ((output - t) ** 2).sum(1).mean()

    if how == "compile":
        torch._dynamo.reset()  # every network is compiled by itself, not as a variant of the one before
    predict = torch.compile(model, mode="reduce-overhead") if how == "compile" else model
    shuffled_X, shuffled_T = X.clone(), T.clone()

    def run(begins):
        for s in begins:
            x, t = shuffled_X[s : s + case.batch], shuffled_T[s : s + case.batch]
            optimizer.zero_grad()
            with torch_precision(device, precision):
                error = loss(predict(x), t)
            error.backward()
            optimizer.step()

    begins, replays = range(0, case.examples, case.batch), []
    if how == "graph":
        kept = [p.detach().clone() for p in model.parameters()]
        warming = torch.cuda.Stream()
        warming.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(warming):
            run([0, 0, 0])
        torch.cuda.current_stream().wait_stream(warming)
        for first in range(0, len(begins), GRAPH_STEPS):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                run(begins[first : first + GRAPH_STEPS])
            replays.append(graph.replay)
        with torch.no_grad():  # back to the start
            for p, value in zip(model.parameters(), kept):
                p.copy_(value)
            for state in optimizer.state.values():
                for value in state.values():
                    if torch.is_tensor(value):
                        value.zero_()

    def train(epochs):
        for _ in range(epochs):
            order = torch.randperm(case.examples, device=device)
            torch.index_select(X, 0, order, out=shuffled_X)
            torch.index_select(T, 0, order, out=shuffled_T)
            for replay in replays or [functools.partial(run, begins)]:
                replay()
        if device == "cuda":
            torch.cuda.synchronize()

    def found():
        arrays = ([p.detach().cpu().numpy() for p in pair] for pair in zip(*((l.weight, l.bias) for l in linear)))
        weights, biases = arrays
        return [W.T for W in weights], biases

    return train, found


def sklearn_epochs(case, dtype, threads):
    """scikit-learn: one warm-started `fit` of as many epochs as asked, each with fresh moments."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    warnings.simplefilter("ignore", ConvergenceWarning)
    X, T = case.data(dtype)
    shared = {
        "hidden_layer_sizes": case.sizes[1:-1],
        "batch_size": case.batch,
        "alpha": 0,
        "warm_start": True,
        "n_iter_no_change": 10**9,  # never stop early
        "random_state": np.random.RandomState(0),  # draws on from call to call
    }
    if case.practice:
        model, y = MLPClassifier(activation="relu", solver="adam", **shared), T.argmax(axis=1)
    else:
        # identity outputs diverge at the others' rate
        model = MLPRegressor(
            activation="logistic", solver="sgd", momentum=0, learning_rate_init=LEARNING_RATE / 10, **shared
        )
        y = T.ravel() if T.shape[1] == 1 else T

    def train(epochs):
        model.set_params(max_iter=epochs).fit(X, y)

    return train, lambda: (model.coefs_, model.intercepts_)


PEERS = {
    "fastmlp": fastmlp_epochs,
    "jax": jax_epochs,
    "torch": torch_raw_epochs,
    "torch-eager": torch_eager_epochs,
    "numpy": numpy_epochs,
    "sklearn": sklearn_epochs,
}
IN_BF16 = {
    "fastmlp-bf16": functools.partial(fastmlp_epochs, precision="bf16"),
    "torch-bf16": functools.partial(torch_raw_epochs, precision="bf16"),
    "torch-eager-bf16": functools.partial(torch_eager_epochs, precision="bf16"),
}
ON_GPU = {
    "fastmlp-cuda": functools.partial(fastmlp_epochs, device="cuda"),
    "jax-cuda": functools.partial(jax_epochs, device="cuda"),
    "torch-cuda": functools.partial(torch_raw_epochs, device="cuda"),
    "torch-eager-cuda": functools.partial(torch_eager_epochs, device="cuda"),
    "torch-graph-cuda": functools.partial(torch_eager_epochs, device="cuda", how="graph"),
    "torch-compile-cuda": functools.partial(torch_eager_epochs, device="cuda", how="compile"),
}


def seconds_per_epoch(train, samples, seconds=0.2):
    """Times of one epoch, after a warm-up: each sample trains as many epochs as last for `seconds`, and at least one.

    Returns
    -------
    times : list of float
        `samples` times in seconds.
    """

    def timed(epochs):
        start = time.perf_counter()
        train(epochs)
        return time.perf_counter() - start

    timed(1)
    epochs, elapsed = 1, timed(1)
    while elapsed < seconds:
        epochs = max(epochs + 1, math.ceil(1.1 * seconds * epochs / elapsed))
        elapsed = timed(epochs)
    return [timed(epochs) / epochs for _ in range(samples)]


def main():
    parser = argparse.ArgumentParser(description="Time the epochs of one peer on one case.")
    parser.add_argument("peer", choices=PEERS | IN_BF16)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--samples", type=int, default=5, help="times to take (default: %(default)s)")
    args = parser.parse_args()
    confine(args.threads)
    try:
        train, _ = (PEERS | IN_BF16)[args.peer](CASES[args.case], args.dtype, args.threads)
    except ImportError as error:
        if getattr(error, "name", None) == "fastmlp":
            raise
        print(json.dumps({"absent": str(error)}))
        return
    print(json.dumps({"times": seconds_per_epoch(train, args.samples)}))


if __name__ == "__main__":
    main()
