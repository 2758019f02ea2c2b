"""The kernels stay within their buffers: guard zones, pages that cannot be touched, Numba's bounds checks."""

import contextlib
import math
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
from cases import ACTIVATIONS, DTYPES, OUTPUTS, data, network, run_python
from guards import Guards

import fastmlp
from fastmlp import Activation, Loss
from fastmlp.cpu.gather import Source
from fastmlp.cpu.layout import CHUNK_ROWS
from fastmlp.cpu.prediction import PlainPrediction
from fastmlp.cpu.trainer import Trainer, callable_at
from fastmlp.cpu.vector import HAS_BF16, TILE_ROWS, lanes_of, panel_of

PAGES = pytest.mark.skipif(sys.platform == "win32", reason="mprotect is POSIX's")
SGD, Adam = fastmlp.SGD, fastmlp.Adam
RULES = {
    "descent": SGD(0.1),
    "momentum": SGD(0.1, momentum=0.9, weight_decay=0.1),
    "nesterov": SGD(0.1, momentum=0.9, nesterov=True),
    "adam": Adam(0.01),
    "clipped": Adam(0.01, max_gradient_norm=0.1, weight_decay=0.1),
    "full batch": fastmlp.GradientDescent(0.1),
    "lbfgs": fastmlp.LBFGS(),
}


def widths(dtype):
    """Layers on both sides of a vector, a panel, a tile and a block of panels."""
    V, P, T = lanes_of(dtype), panel_of(dtype), TILE_ROWS
    return [[1, 1], [1, V, 1], [V + 1, P + 1, V - 1], [P, V, P], [T + 1, 1, P - 1, 2], [4 * P + 1, T - 1, 2 * P + 1]]


# examples and minibatches on both sides of a tile and a chunk
ROWS = [(1, 1), (TILE_ROWS - 1, 3), (TILE_ROWS, TILE_ROWS), (2 * TILE_ROWS + 1, TILE_ROWS + 1), (3 * TILE_ROWS, 100)]
CHUNKS = [(CHUNK_ROWS, CHUNK_ROWS), (2 * CHUNK_ROWS + 1, CHUNK_ROWS + 1), (CHUNK_ROWS + 1, CHUNK_ROWS - 1)]


def everything(guards, net, X, T, batch_size, rules=RULES):
    """All that kernels compute for a network, its buffers between guards if there are any: arrays."""
    place, check = (guards.place, guards.check) if guards else (np.copy, lambda: None)
    if guards:
        X, T = guards.place(X), guards.place(T)
    m, real = X.shape[0], np.dtype(net.dtype)
    weight = np.arange(m) % 3 + 0.5
    out = place(np.zeros((m, net.sizes[-1]), real))
    results = [net.forward(X), net.forward(X[-1:]), net.forward(X, out=out)]
    results += [a for pair in net.layers(X) for a in pair]
    check()
    results += [*net.deltas(X, T), np.array([net.objective(X, T), net.objective(X, T, weight)])]
    for sample_weight in (None, weight):
        results += [a for arrays in net.gradients(X, T, sample_weight) for a in arrays]
        check()
    plain = PlainPrediction(*([place(a) for a in arrays] for arrays in (net.weights, net.biases)), *functions(net))
    if isinstance(X, np.ndarray):
        results.append(plain(place(np.ascontiguousarray(X, real))))
        check()
    for name in rules:
        optimizer, size = RULES[name], {} if name in ("full batch", "lbfgs") else {"batch_size": batch_size}
        if name == "lbfgs" and net.dropout > 0:
            continue
        more = {"sample_weight": weight} if name in ("momentum", "lbfgs") else {"validation": (X, T)}
        history = net.train(X, T, optimizer=optimizer, epochs=2, **size, **more)
        results += [np.array(history.objective), np.array(history.validation or []), *net.weights, *net.biases]
        check()
    return results


def functions(net):
    return net.activation, net.output, np.dtype(net.dtype)


def gathered(guards, net, X, T, batch_size):
    """What tells whether X and T were read rightly, in one order and another: arrays."""
    if guards:
        X, T = guards.place(X), guards.place(T)
    history = net.train(X, T, optimizer=SGD(0.1), batch_size=batch_size, epochs=1)
    return [net.forward(X), *net.deltas(X, T), np.array(history.objective), *net.weights, *net.biases]


def compare(make, X, T, batch_size, pages=None, compute=everything, **more):
    """The bits between guards are those without; nothing was written beyond a buffer."""
    expected = compute(None, make(), X, T, batch_size, **more)
    guards = Guards(pages)
    with guards.around_kernels():
        found = compute(guards, make(), X, T, batch_size, **more)
        guards.check()
    for n, (f, e) in enumerate(zip(found, expected, strict=True)):
        assert np.array_equal(f, e), f"result {n} is another between guards"


# the grid: between zones in this process, between pages in child processes


def grid_of_shapes(dtype, pages):
    for sizes in widths(dtype):
        for m, batch_size in ROWS:
            settings = {"dtype": dtype, "activation": "tanh", "l2": 0.1}
            compare(lambda: network(sizes, **settings), *data(network(sizes), m), batch_size, pages)  # noqa: B023


def grid_of_chunks(dtype, pages):
    V, P = lanes_of(dtype), panel_of(dtype)
    for sizes, output in (([4 * P + 1, V + 1, 1], "logistic"), ([3, 2 * P + 1, P], "softmax")):
        settings = {"dtype": dtype, "output": output, "loss": "log_loss", "dropout": 0.3}
        for m, batch_size in CHUNKS:
            compare(lambda: network(sizes, **settings), *data(network(sizes, **settings), m), batch_size, pages)  # noqa: B023


# Of users: compiled for vectors, and for one number after another.
SINE = Activation(math.sin, math.cos)
SQUARE = Activation(lambda z: z**2 / 9.0, lambda z: z / 4.5)
LOG_COSH = Loss(lambda a, y: math.log(math.cosh(a - y)), lambda a, y: math.tanh(a - y))


def grid_of_functions(dtype, pages):
    V, P = lanes_of(dtype), panel_of(dtype)
    for k, (output, loss) in enumerate((*OUTPUTS, (SQUARE, LOG_COSH), ("identity", LOG_COSH), ("softmax", "log_loss"))):
        sizes = [3, V - 1, P + 1, (V + 1, 2, P - 1)[k % 3]]
        for activation in ACTIVATIONS if k < len(OUTPUTS) else (SQUARE, SINE):
            settings = {"dtype": dtype, "activation": activation, "output": output, "loss": loss}
            X, T = data(network(sizes, **settings), TILE_ROWS + 1)
            compare(lambda: network(sizes, **settings), X, T, 5, pages, rules=["descent"])  # noqa: B023


def unaligned(X):
    """Rows an odd number of bytes apart."""
    raw = np.zeros((len(X), X[0].nbytes + 1), np.uint8)[:, :-1]
    raw[...] = np.ascontiguousarray(X).view(np.uint8)
    return raw.view(X.dtype)


FORMS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "every second row": lambda X: np.repeat(X, 2, 0)[::2],
    "every second column": lambda X: np.repeat(X, 2, 1)[:, ::2],
    "reversed": lambda X: X[::-1].copy()[::-1],
    "columns reversed": lambda X: X[:, ::-1].copy()[:, ::-1],
    "one row many times": lambda X: np.broadcast_to(X[:1], X.shape),
    "unaligned": unaligned,
}
NUMBERS = tuple("bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split())


def grid_of_kinds(dtype, pages):
    """X of every kind and dtype, its width on both sides of a vector; labels; CSR with an empty last row."""
    r, V, m = np.random.default_rng(0), lanes_of(dtype), 2 * TILE_ROWS + 3
    settings = {"output": "softmax", "loss": "log_loss", "dtype": dtype}
    for k, number in enumerate(NUMBERS):
        for columns in (1, V - 1, V, V + 1):
            X, T = (r.integers(0, n, shape) for n, shape in ((2, (m, columns)), (3, m)))
            X, T = X.astype(number), T.astype(NUMBERS[1 + k % 8])[::-1]
            kinds = [form(X) for form in FORMS.values()]
            if number != "float16":
                for index in (np.int32, np.int64):
                    sparse = scipy.sparse.csr_array(np.where(np.arange(m)[:, None] < m - 1, X, 0))
                    sparse.indices, sparse.indptr = sparse.indices.astype(index), sparse.indptr.astype(index)
                    kinds.append(sparse)
            for kind in kinds if columns > V else kinds[:1]:
                compare(lambda: network([columns, 3, 3], **settings), kind, T, 5, pages, gathered)  # noqa: B023


def grid_of_pairs(dtype, pages):
    """Factors in pairs of bfloat16 numbers, beside the float32 ones."""
    if dtype != "float32" or not HAS_BF16:
        return
    settings = {"activation": "tanh", "l2": 0.1, "precision": "bf16"}
    for sizes in widths(dtype):
        for m, batch_size in ROWS:
            compare(lambda: network(sizes, **settings), *data(network(sizes), m), batch_size, pages)  # noqa: B023
    P, V = panel_of(dtype), lanes_of(dtype)
    settings = {"output": "softmax", "loss": "log_loss", "dropout": 0.3, "precision": "bf16"}
    for m, batch_size in CHUNKS:
        make = lambda: network([4 * P + 1, V + 1, 2 * P + 1], **settings)  # noqa: E731
        compare(make, *data(make(), m), batch_size, pages)


def grid_of_estimators(dtype, pages):
    """What the estimators alone ask of the kernels: their losses, an order that is given, offsets of the losses."""
    r, P, m = np.random.default_rng(0), panel_of(dtype), CHUNK_ROWS + TILE_ROWS + 1
    real = np.dtype(dtype)
    for outputs in (1, P + 1):
        X, T = r.standard_normal((m, 5)).astype(dtype), r.random((m, outputs)).astype(dtype)
        weight, offsets, order = r.random(m), r.random(m), r.permutation(m)[: m - 3]
        start = network([5, P + 1, outputs], dtype=dtype)
        for loss in ("squared_error", "poisson", "huber", "absolute_error"):
            for batch_size in (TILE_ROWS + 1, m):
                results = []
                for guards in (None, Guards(pages)):
                    place = guards.place if guards else np.copy
                    with guards.around_kernels() if guards else contextlib.nullcontext():
                        output = "exp" if loss == "poisson" else "identity"
                        trainer = Trainer(start.sizes, "relu", output, loss, 0.1, real, 0.2, l2_per_example=True)
                        trainer.set_parameters(start.weights, start.biases)
                        trainer.start_moments(1)
                        settings = {"rule": "momentum", "momentum": 0.9, "max_norm": 1.0}
                        arrays = map(place, (X, T, weight, order, offsets))
                        X_, T_, weight_, order_, offsets_ = arrays
                        epochs = trainer.epochs(X_, T_, weight_, settings, batch_size, order_, offsets_)
                        epochs.begin(learning_rate=0.01, dropout_seed=3)
                        epochs.run(epochs.chunks)
                        few, many = trainer.forward(X_[:3]), trainer.forward(X_, largest=True)
                        results.append([few, many, np.array(epochs.mean_loss()), *sum(trainer.parameters(), [])])
                    if guards:
                        guards.check()
                assert all(np.array_equal(f, e) for f, e in zip(*results))


def streamed(guards, net, X, T, batch_size):
    """Trainings on X and T in four chunks, in windows, shuffled and in order: arrays."""
    if guards:
        X, T = guards.place(X), guards.place(T)
    cuts = [0, 1, X.shape[0] // 3, X.shape[0] // 2, X.shape[0]]
    chunks = [(X[begin:end], T[begin:end]) for begin, end in zip(cuts, cuts[1:])]
    results = []
    for window in (TILE_ROWS + 1, X.shape[0]):
        for optimizer, more in (
            (RULES["full batch"], {}),
            (RULES["adam"], {"batch_size": batch_size}),
            (RULES["clipped"], {"batch_size": batch_size, "shuffle": False}),
        ):
            history = net.train(chunks, optimizer=optimizer, epochs=2, window=window, **more)
            results += [np.array(history.objective), *net.weights, *net.biases]
            if guards:
                guards.check()
    return results


def grid_of_streams(dtype, pages):
    P, settings = panel_of(dtype), {"output": "softmax", "loss": "log_loss", "dtype": dtype}
    for m, batch_size, sizes in ((TILE_ROWS + 3, 3, [P + 1, 5, P]), (CHUNK_ROWS + 5, CHUNK_ROWS + 1, [1, 3, 2])):
        X, T = data(network(sizes, **settings), m)
        sparse = scipy.sparse.csr_array(np.where(X > 0, X, 0))
        for x, t in ((X, T), (X.astype(np.float16), T.argmax(axis=1)), (sparse, T)):
            compare(lambda: network(sizes, **settings), x, t, batch_size, pages, streamed)  # noqa: B023


GRIDS = [
    grid_of_shapes,
    grid_of_chunks,
    grid_of_functions,
    grid_of_kinds,
    grid_of_pairs,
    grid_of_estimators,
    grid_of_streams,
]


@pytest.fixture
def three_shares(monkeypatch):
    """Passes cut into as many shares as there are tiles, up to three, however little work there is."""
    monkeypatch.setattr(Trainer, "_threads", lambda trainer, operations, passes, most: min(3, most))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("grid", GRIDS)
def test_zones(grid, dtype):
    grid(dtype, None)


@pytest.mark.usefixtures("three_shares")
@pytest.mark.parametrize("dtype", DTYPES)
def test_zones_of_many_shares(dtype):
    grid_of_chunks(dtype, None)


@PAGES
@pytest.mark.parametrize("pages", ["begin", "end"])
def test_pages(pages):
    """A read or write beyond a buffer would kill the process; faulthandler says where."""
    run_python("-X", "faulthandler", __file__, pages)


# the guards themselves


def gather(guards, rows, room, asked):
    """Let the gather kernel put `asked` rows of an X of `rows` rows into a buffer with room for `room`."""
    real, panel = np.dtype(np.float32), panel_of(np.float32)
    X, buffer = guards.place(np.ones((rows, panel), real)), guards.zeros(room * panel, real)
    source = Source(X, real)
    callable_at(source.gather, 6)(source.address, 0, 0, asked, buffer.ctypes.data, room * panel)
    return buffer


def test_zones_show_a_write():
    guards = Guards()
    gather(guards, 3, 3, 3)
    guards.check()
    gather(guards, 3, 2, 3)
    with pytest.raises(AssertionError, match="behind"):
        guards.check()


@pytest.mark.parametrize("byte", [-1, 0])
def test_zones_show_a_byte(byte):
    guards = Guards()
    buffer = guards.zeros(5, np.uint8)
    memory = np.ndarray(7, np.uint8, buffer.base, buffer.ctypes.data - buffer.base.ctypes.data - 1)
    memory[byte] ^= 1
    with pytest.raises(AssertionError, match="before" if byte == 0 else "behind"):
        guards.check()


def test_zones_show_a_read():
    assert np.isnan(gather(Guards(), 3, 4, 4)[-panel_of(np.float32) :]).all()


@PAGES
@pytest.mark.parametrize(("pages", "rows", "room"), [("end", 2, 3), ("end", 3, 2)], ids=["read", "write"])
def test_pages_show(pages, rows, room):
    code = f"import test_memory_safety as t; t.gather(t.Guards({pages!r}), {rows}, {room}, 3)"
    path = os.pathsep.join([*map(str, (pathlib.Path(__file__).parent, pathlib.Path(fastmlp.__file__).parents[1]))])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True)
    assert done.returncode in (-signal.SIGSEGV, -signal.SIGBUS), done.stderr


# Numba's own bounds checks

JIT_PREDICT = """
import warnings
import numba, numpy as np
import fastmlp
from fastmlp import Activation, Loss

assert numba.config.BOUNDSCHECK

@numba.njit
def beyond(array):
    return array[len(array)]

try:
    beyond(np.zeros(3))
except IndexError:
    pass
else:
    raise AssertionError("bounds are not checked")
warnings.simplefilter("ignore")
X = np.random.default_rng(0).standard_normal((17, 5))
for y in (np.arange(17) % 2, np.arange(17) % 3, np.eye(3, dtype=int)[np.arange(17) % 3], np.full(17, "one")):
    classifier = fastmlp.MLPClassifier((7,), max_iter=2, random_state=0).fit(X, y)
    assert len(classifier.jit_predict_(X)) == 17
for y in (X[:, 0], X[:, :3]):
    regressor = fastmlp.MLPRegressor(hidden_layer_sizes=(7,), max_iter=2, random_state=0).fit(X, y)
    assert np.allclose(regressor.jit_predict_(X), regressor.predict(X))
"""


def test_bounds_of_numba_arrays():
    """The functions of jit_predict_ are the only ones that index arrays; kernels have pointers."""
    run_python("-c", JIT_PREDICT, NUMBA_BOUNDSCHECK="1")


if __name__ == "__main__":
    for real in DTYPES if sys.argv[1] == "end" else DTYPES[:1]:
        for between_pages in GRIDS:
            between_pages(real, sys.argv[1])
