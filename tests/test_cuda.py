"""The CUDA backend against the lecture and against the CPU: in the simulator, or, with FASTMLP_TEST_GPU=1, on a GPU.

The simulator takes about a millisecond for what a GPU does in a nanosecond, so networks are small there, and tiles are
too (layout.SHAPES); on a GPU the same tests also have widths and minibatches on both sides of its tiles.
"""

import itertools
import math
import warnings

import numpy as np
import pytest
import reference
import scipy.sparse
from cases import (
    ACTIVATIONS,
    DTYPES,
    OUTPUTS,
    TOLERANCE,
    assert_close,
    assert_lecture,
    assert_parameters,
    data,
    lecture,
    network,
    refused,
    relative_error,
    same_bits,
)

import fastmlp
from fastmlp import devices

if devices.cuda_problem() is not None:
    pytest.skip(devices.cuda_problem().message, allow_module_level=True)

from numba import cuda, types  # noqa: E402

from fastmlp.cuda import data as cuda_data  # noqa: E402
from fastmlp.cuda import launch, layout, trainer  # noqa: E402
from fastmlp.cuda.ptx import SIMULATED  # noqa: E402
from fastmlp.cuda.reduction import SUMMERS, block_sum  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("quick_simulator"),
    pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered"),
]

SIZES = [(5, 7, 3), (9, 17, 3, 2), (1, 1), (18, 4)]
ROWS = (1, 8, 21)
if not SIMULATED:
    SIZES += [(784, 128, 10), (64, 64, 64, 64, 10), (65, 129, 33, 17), (300, 257, 5), (31, 130, 200, 1)]
    ROWS = (1, 15, 16, 17, 63, 64, 65, 127, 129, 257, 1000)


def gpu(net):
    """The same network on the GPU."""
    settings = {name: getattr(net, name) for name in ("activation", "output", "loss", "l2", "dtype", "dropout")}
    twin = fastmlp.Network(net.sizes, device="cuda", random_state=0, **settings)
    twin.weights, twin.biases = net.weights, net.biases
    return twin


@pytest.fixture
def force(monkeypatch):
    """force(shape, split, mode): the plan of all trainings and predictions from here on."""

    def choose(shape, split, mode):
        def plan(sizes, activation, output, real, rows, chunks_each, rule, clip, machine, precision="float32"):
            base = layout.layout(sizes, activation, output, real, precision)
            few = min(split, len(sizes) - 1)
            one = mode == launch.ALONE and rule >= 0 and rule not in (0, 1)
            found = layout.build(shape, base, rows, chunks_each, rule, clip, 0 if one else few, real, machine)
            return found._replace(resident=one)

        monkeypatch.setattr(trainer, "plan", plan)
        other = launch.COOPERATIVE if mode == launch.ALONE else mode
        monkeypatch.setattr(launch, "mode_of", lambda plan: launch.ALONE if plan.resident else other)

    return choose


STAGES = launch.STAGES if SIMULATED else launch.GRAPH
PLANS = [
    (number, split, mode, dtype)
    for number, shape in enumerate(layout.SHAPES)
    for split, mode in ((0, launch.ALONE), (0, launch.COOPERATIVE), (1, launch.COOPERATIVE), (9, STAGES))
    for dtype in DTYPES
    if shape in (layout.resident_shapes if mode == launch.ALONE else layout.shapes)(np.dtype(dtype))
]


# the lecture's quantities


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("output", "loss"), OUTPUTS)
def test_quantities(output, loss, dtype):
    """Every output and loss, with weights, as in the lecture."""
    net = network((5, 7, 3), activation="tanh", output=output, loss=loss, l2=0.03, dtype=dtype)
    X, T = data(net, 11)
    assert_lecture(gpu(net), X, T, np.random.default_rng(2).random(11))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation):
    """Every hidden activation, through two hidden layers."""
    net = network((4, 9, 6, 2), activation=activation, dtype="float64")
    X, T = data(net, 9)
    assert_lecture(gpu(net), X, T)


@pytest.mark.parametrize(("sizes", "rows"), itertools.product(SIZES, ROWS))
def test_shapes(sizes, rows):
    """Widths and minibatches on both sides of a tile."""
    net = network(sizes, output="identity")
    X, T = data(net, rows)
    assert_lecture(gpu(net), X, T)


@pytest.mark.parametrize(("number", "split", "mode", "dtype"), PLANS)
def test_plans(force, number, split, mode, dtype):
    """Every tile, in every way to run it: an epoch of training, and the gradients, as in the lecture."""
    force(layout.SHAPES[number], split, mode)
    small, medium, large = ((6, 18, 9, 3), 21, 9), ((20, 33, 17, 10), 75, 30), ((70, 150, 90, 10), 333, 150)
    sizes, m, batch_size = small if SIMULATED else medium if mode == launch.ALONE else large  # that a block holds
    net = network(sizes, activation="tanh", l2=0.02, dtype=dtype)
    X, T = data(net, m)
    twin = gpu(net)
    expected = reference.train(lecture(net), X, T, reference.SGD(0.5), 2, batch_size=batch_size)
    dW, db = twin.gradients(X, T)
    assert_close([*dW, *db], [a for g in reference.gradients(lecture(net), X, T) for a in g], TOLERANCE[dtype])
    history = twin.train(X, T, optimizer=fastmlp.SGD(0.5), batch_size=batch_size, epochs=2, shuffle=False)
    assert_parameters(twin, expected.net, TOLERANCE[dtype])
    np.testing.assert_allclose(history.objective, expected.objective, rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("slices", (1, 3))
def test_slices(force, monkeypatch, slices):
    """U and V summed over slices of the examples, each by itself."""
    monkeypatch.setattr(layout, "slices_of", lambda *_: slices)
    force(layout.SHAPES[0], 1, STAGES)
    net = network((6, 18, 3), activation="tanh", l2=0.02)
    X, T = data(net, 41)
    twin = gpu(net)
    twin.train(X, T, optimizer=fastmlp.SGD(0.5), batch_size=30, epochs=1, shuffle=False)
    assert_parameters(twin, reference.train(lecture(net), X, T, reference.SGD(0.5), 1, batch_size=30).net, 1e-5)


@pytest.mark.parametrize("mode", (launch.COOPERATIVE, STAGES))
@pytest.mark.parametrize("activation", ("tanh", "swish"))
def test_blocks_that_share_rows(monkeypatch, force, activation, mode):
    """The last weights' forward, delta and backward by several blocks for the same rows: each loss counts once."""
    monkeypatch.setattr(layout, "blocks_that_share", lambda program, fused: fused[-1]["columns"])
    force(layout.SHAPES[0], 1, mode)
    f = fastmlp.Activation(swish, swish_derivative) if activation == "swish" else activation
    net = network((6, 70, 3), activation=f, output="softmax", loss="log_loss", l2=0.02)
    found = layout.build(
        layout.SHAPES[0], layout.layout(net.sizes, f, "softmax", np.float32), 9, 1, 0, False, 1, np.float32,
        launch.machine(),
    )  # fmt: skip
    assert found.stages["fused"].max() == -(-70 // layout.SHAPES[0].columns)
    X, T = data(net, 21)
    twin = gpu(net)
    history = twin.train(X, T, optimizer=fastmlp.SGD(0.5), batch_size=9, epochs=1, shuffle=False)
    expected = net.train(X, T, optimizer=fastmlp.SGD(0.5), batch_size=9, epochs=1, shuffle=False)
    assert_close([*twin.weights, *twin.biases], [*net.weights, *net.biases], 1e-5)
    np.testing.assert_allclose(history.objective, expected.objective, rtol=1e-5)


def test_blocks_share_nothing_else():
    """With a hidden layer before, which f'(z) of a user's f is kept for, or a wide output, rows are one block's."""
    for sizes, split in (((6, 70, 70, 3), 1), ((6, 70, 300), 1), ((6, 70, 3), 0), ((6, 70, 3), 2)):
        base = layout.layout(sizes, "tanh", "identity", np.float32)
        settings = 9, 1, 0, False, split, np.float32, layout.Machine()
        assert layout.build(layout.SHAPES[0], base, *settings).stages["fused"].max() <= 1


def test_chunks(monkeypatch):
    """A minibatch in several chunks, the last one shorter, and a minibatch that ends in the first chunk."""
    monkeypatch.setattr(trainer, "CHUNK_ROWS", 8)
    net = network((6, 10, 3), activation="tanh", l2=0.02)
    X, T = data(net, 25)
    twin = gpu(net)
    optimizers = fastmlp.SGD(0.5, max_gradient_norm=0.05), reference.SGD(0.5, max_gradient_norm=0.05)
    twin.train(X, T, optimizer=optimizers[0], batch_size=19, epochs=2, shuffle=False)
    assert_parameters(twin, reference.train(lecture(net), X, T, optimizers[1], 2, batch_size=19).net, 1e-5)
    assert_lecture(twin, X, T)


def swish(z):
    return z / (1.0 + math.exp(-z))


def swish_derivative(z):
    return swish(z) + (1.0 - swish(z)) / (1.0 + math.exp(-z))


class ReplayedGraph:
    """A CUDA graph for the simulator, which has none: what it records runs when it is launched."""

    def __init__(self, record, keep):
        self.record = record

    def launch(self, stream):
        self.record(stream)


@pytest.mark.parametrize("chunk_rows", (100, 4))
def test_graphs(monkeypatch, force, chunk_rows):
    """Graphs of several minibatches and of one, over more than one epoch, with a last minibatch that is not full."""
    if SIMULATED:
        monkeypatch.setattr(launch, "Graph", ReplayedGraph)
        monkeypatch.setattr(trainer, "CHUNK_ROWS", chunk_rows)
    force(layout.SHAPES[0], 1, launch.GRAPH)
    net = network((6, 18, 3), activation="tanh", l2=0.02, dtype="float64")
    X, T = data(net, 41)
    one = trainer.Trainer(net.sizes, net.activation, net.output, net.loss, net.l2, net.dtype, 0.0)
    one.set_parameters(net.weights, net.biases)
    epochs = one.epochs(X, T, None, {"rule": "descent"}, 6)
    epochs.launch.mode, epochs.launch._recorded = launch.GRAPH, 3 * epochs.chunks_each
    for epoch in range(2):
        if epoch:
            weights, biases = one.parameters()
            one._model = cuda_data.zeros(one._model.size, one.dtype)  # as when the optimizer's state is made anew
            one.set_parameters(weights, biases)
        epochs.begin(learning_rate=0.5)
        epochs.run(2 * epochs.chunks_each)
        epochs.run(epochs.chunks)
    expected = reference.train(lecture(net), X, T, reference.SGD(0.5), 2, batch_size=6)
    assert_close(one.parameters()[0], expected.net.weights, 1e-12)
    assert epochs.objective() == pytest.approx(expected.objective[1], rel=1e-12)
    assert {chunks for _, chunks in epochs.launch._graphs} == {n * epochs.chunks_each for n in (1, 3)}


# training


RULES = {
    "descent": ("SGD", {"learning_rate": 0.3}),
    "momentum": ("SGD", {"learning_rate": 0.1, "momentum": 0.9}),
    "nesterov": ("SGD", {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
    "decay": ("SGD", {"learning_rate": 0.1, "momentum": 0.5, "weight_decay": 0.1}),
    "clipped": ("SGD", {"learning_rate": 0.3, "max_gradient_norm": 0.05}),
    "adam": ("Adam", {"learning_rate": 0.01}),
    "adamw": ("Adam", {"learning_rate": 0.01, "weight_decay": 0.1}),
}


@pytest.mark.parametrize("mode", (launch.ALONE, STAGES))
@pytest.mark.parametrize("rule", RULES)
def test_rules(force, rule, mode):
    """Every optimizer's update, in shared memory and by stages."""
    force(layout.SHAPES[0], 1, mode)
    net = network((5, 9, 3), activation="tanh", output="softmax", loss="log_loss", l2=0.02, dtype="float64")
    X, T = data(net, 14)
    weight = np.random.default_rng(3).random(14)
    twin, (name, settings) = gpu(net), RULES[rule]
    ours, theirs = (getattr(package, name)(**settings) for package in (fastmlp, reference))
    history = twin.train(X, T, optimizer=ours, batch_size=6, epochs=2, shuffle=False, sample_weight=weight)
    expected = reference.train(lecture(net), X, T, theirs, 2, batch_size=6, sample_weight=weight)
    assert_parameters(twin, expected.net, 1e-12)
    np.testing.assert_allclose(history.objective, expected.objective, rtol=1e-12)


def test_adam_leaves_alone_what_has_no_gradient():
    """An epsilon that is zero in float32 makes no 0 / 0, neither of such weights nor of what pads them."""
    net = network((5, 7, 3), activation="tanh", dtype="float32")
    X, T = data(net, 14)
    X[:, 2] = 0.0
    twin = gpu(net)
    for one in (net, twin):
        one.train(X, T, optimizer=fastmlp.Adam(0.01, epsilon=1e-60), batch_size=6, epochs=2, shuffle=False)
    assert_parameters(twin, net, 1e-5)


def test_full_batch_until_tol():
    """GradientDescent stops when the weights stop changing, as on the CPU."""
    net = network((4, 5, 2), dtype="float64")
    X, T = data(net, 9)
    twin = gpu(net)
    histories = [n.train(X, T, optimizer=fastmlp.GradientDescent(0.1), epochs=6, tol=0.004) for n in (net, twin)]
    assert histories[0].n_epochs == histories[1].n_epochs and histories[0].stopped == histories[1].stopped
    assert_close(twin.weights, net.weights, 1e-12)


def test_lbfgs():
    """L-BFGS takes the GPU's objective and gradients."""
    net = network((4, 5, 2), dtype="float64")
    X, T = data(net, 9)
    twin = gpu(net)
    for n in (net, twin):
        n.train(X, T, optimizer=fastmlp.LBFGS(), epochs=2)
    assert_close(twin.weights, net.weights, 1e-9)


def test_cpu_and_gpu_agree_while_they_train():
    """Ten epochs' loss curves, shuffled and with dropout: the same order, the same units."""
    net = network((6, 12, 3), activation="relu", output="softmax", loss="log_loss", dropout=0.25)
    X, T = data(net, 40)
    curves = []
    for device in ("cpu", "cuda"):
        n = fastmlp.Network(
            net.sizes, "relu", "softmax", "log_loss", dropout=0.25, init="he", device=device, random_state=3
        )
        curves.append(n.train(X, T, optimizer=fastmlp.Adam(0.01), batch_size=16, epochs=10).objective)
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-5)


def test_same_bits_again():
    """A run repeated gives the same bits, and epochs 1 and 2 are epochs 3."""

    def trained(*parts):
        n = fastmlp.Network((6, 12, 3), "tanh", l2=0.01, device="cuda", random_state=3)
        X, T = data(n, 30)
        for epochs in parts:
            n.train(X, T, optimizer=fastmlp.Adam(0.01), batch_size=7, epochs=epochs)
        return n

    assert same_bits(trained(3), trained(3), trained(1, 2))


def test_poisoned_room(force):
    """What an earlier chunk has left is never read: all but the padding may be NaN when an epoch begins."""
    for split, mode, dtype, limit in (
        (0, launch.COOPERATIVE, "float32", None),
        (9, STAGES, "float32", 1.0),
        (1, STAGES, "float64", None),
    ):
        force(layout.SHAPES[0], split, mode)
        net = network((6, 18, 9, 3), activation="tanh", l2=0.02, dtype=dtype)
        X, T = data(net, 21)
        sums, weights = [], []
        for poison in (False, True):
            one = trainer.Trainer(net.sizes, net.activation, net.output, net.loss, net.l2, net.dtype, 0.0)
            one.set_parameters(net.weights, net.biases)
            epochs = one.epochs(X, T, None, {"rule": "descent", "max_norm": limit}, 9)
            if poison:
                fill_with_nan(epochs)
            epochs.begin(learning_rate=0.5)
            epochs.run(epochs.chunks)
            sums.append(epochs.objective())
            weights.append(np.concatenate([W.ravel() for W in one.parameters()[0]]))
        assert sums[0] == sums[1] and np.array_equal(*weights) and np.isfinite(weights).all()


def fill_with_nan(epochs):
    """Make every number of a, delta, T and the examples' weights NaN, but for the columns that pad rows."""
    found, step = epochs.launch.plan, epochs.launch.step[0]
    room = epochs.launch.room.copy_to_host()
    first = found.layers[0]
    places = [(first["a_in"], first["in_stride"], first["n_in"], first["a_out"])]
    for l in found.layers:
        for place in (l["a_out"], l["d_out"]):
            places.append((place, l["out_stride"], l["n_out"], place + found.rows * l["out_stride"]))
    for begin, stride, columns, end in places:
        room[begin:end].reshape(-1, stride)[:, :columns] = np.nan
    top = found.layers[-1]
    T = room[step["targets"] :][: found.rows * top["out_stride"]]
    T.reshape(-1, top["out_stride"])[:, : top["n_out"]] = np.nan
    room[step["row_weights"] : step["row_weights"] + found.rows] = np.nan
    if "gradients" in found.places:
        ones = ([np.ones_like(array) for array in arrays] for arrays in epochs.trainer.parameters())
        entries = epochs.trainer._flat(*ones) > 0
        room[step["gradients"] :][: step["slices"] * entries.size].reshape(-1, entries.size)[:, entries] = np.nan
    epochs.launch.room.copy_to_device(room)


# data


def test_inputs():
    """X of other dtypes, orders and strides, sparse, and labels: as the same numbers in float32."""
    net = network((4, 6, 3), output="softmax", loss="log_loss")
    r = np.random.default_rng(4)
    X, y = r.integers(0, 5, (13, 4)).astype(np.float32), r.integers(0, 3, 13)
    twins = []
    for x, t in (
        (X, np.eye(3, dtype=np.float32)[y]),
        (X.astype(np.uint8), y),
        (X.astype(np.float16), y.astype(np.uint8)),
        (np.asfortranarray(X.astype(np.float64)), y.astype(np.int32)),
        (np.repeat(X, 2, 1)[::-1, ::2][::-1], y),
        (scipy.sparse.csr_matrix(X), y),
        (X.astype(np.int64).tolist(), y),
    ):
        twins.append(gpu(net))
        twins[-1].train(x, t, optimizer=fastmlp.SGD(0.5), batch_size=5, epochs=1)
        assert np.array_equal(twins[-1].forward(x), twins[0].forward(X))
    assert same_bits(*twins)


def test_other_inputs(tmp_path):
    """Frames, objects, booleans, memory maps, one row, and more examples a minibatch than there are."""
    pd = pytest.importorskip("pandas")
    net = network((3, 4, 2), output="softmax", loss="log_loss")
    X = np.random.default_rng(4).integers(0, 2, (9, 3)).astype(np.float32)
    np.save(tmp_path / "X.npy", X)
    y = X[:, 0] > 0
    twins = [gpu(net) for _ in range(5)]
    others = (X, pd.DataFrame(X), X.astype(object), X > 0, np.load(tmp_path / "X.npy", mmap_mode="r"))
    for twin, x in zip(twins, others, strict=True):
        twin.train(x, y, optimizer=fastmlp.SGD(0.5), batch_size=50, epochs=2)
        assert np.array_equal(twin.forward(x[:1]), twins[0].forward(X[:1]))
    assert same_bits(*twins)


def test_sparse_entries_at_the_same_place_add():
    """A CSR matrix with an entry in two parts is not changed, and trains as the sum."""
    X = scipy.sparse.csr_matrix((np.array([1.0, 2.0, 3.0]), np.array([1, 1, 0]), np.array([0, 2, 3])), shape=(2, 3))
    net = gpu(network((3, 4, 1)))
    h = net.forward(X)
    assert X.nnz == 3 and np.array_equal(h, net.forward(np.array([[0, 3, 0], [3, 0, 0]], np.float32)))


@pytest.mark.parametrize("kind", ("dense", "bytes", "sparse"))
def test_more_data_than_memory(monkeypatch, kind):
    """Examples that come by in windows give the same bits as examples that are all there."""
    net = network((6, 5, 3), output="softmax", loss="log_loss")
    r = np.random.default_rng(5)
    X, y, weight = r.integers(0, 3, (41, 6)), r.integers(0, 3, 41), r.random(41)
    X = {"dense": X.astype(np.float32), "bytes": X.astype(np.uint8), "sparse": scipy.sparse.csr_matrix(X)}[kind]
    found = []
    for rows in (0, 16):
        with monkeypatch.context() as patched:
            if rows:
                patched.setattr(trainer.Trainer, "chunks_at_once", lambda self, *a, r=rows: max(1, r // a[5]))
            twin = gpu(net)
            history = twin.train(X, y, optimizer=fastmlp.SGD(0.5), batch_size=5, epochs=2, sample_weight=weight)
            J = twin.objective(X, y, sample_weight=weight)
            assert relative_error(twin.forward(X), net.forward(X)) > 0
            found.append((history.objective, J, twin))
    assert found[0][0] == found[1][0] and found[0][1] == pytest.approx(found[1][1], rel=1e-12)
    assert same_bits(found[0][2], found[1][2])


@pytest.mark.parametrize("kind", ("reals", "bytes"))
@pytest.mark.parametrize("labels", (False, True))
def test_streamed_chunks(kind, labels, monkeypatch):
    """Examples read in chunks give the bits of those in memory: shuffled in one window, in order in several."""
    net = network((6, 5, 3), output="softmax", loss="log_loss")
    r = np.random.default_rng(5)
    X, y = r.integers(0, 9, (41, 6)).astype(np.float32 if kind == "reals" else np.uint8), r.integers(0, 3, 41)
    T = y if labels else np.eye(3, dtype=np.float32)[y]
    chunks = [(X[begin : begin + 9], T[begin : begin + 9]) for begin in range(0, 41, 9)]
    for optimizer, arguments in (
        (fastmlp.Adam(), {"batch_size": 5, "shuffle": False, "window": 13}),
        (fastmlp.Adam(), {"batch_size": 5, "window": 41}),
        (fastmlp.GradientDescent(0.5), {"window": 10}),
    ):
        whole, parts = gpu(net), gpu(net)
        settings = {"optimizer": optimizer, "epochs": 2, **arguments}
        with monkeypatch.context() as patched:
            patched.setattr(trainer, "CHUNK_ROWS", 8)
            history = parts.train(chunks, **settings)
            del settings["window"]
            assert history.objective == whole.train(X, T, **settings).objective
        assert same_bits(whole, parts)


def test_chunks_that_are_refused():
    """A number that is not finite is named, and the last epoch's weights stand; sparse chunks stay on the CPU."""
    net = gpu(network((6, 5, 3)))
    X, T = data(net, 20)
    twin, bad = gpu(network((6, 5, 3))), X.copy()
    bad[3, 4] = np.inf
    with refused("X of chunk 1 holds inf at row 3, column 4"):
        net.train([(X, T), (bad, T)], optimizer=fastmlp.SGD(0.1), window=8)
    assert same_bits(net, twin)
    with refused("the chunks of X are sparse"):
        net.train([(scipy.sparse.csr_matrix(X), T)], optimizer=fastmlp.SGD(0.1))


def test_full_batch_in_windows(monkeypatch):
    """Gradient descent over more data than memory: the chunks of the one minibatch come by in windows."""
    monkeypatch.setattr(trainer, "CHUNK_ROWS", 8)
    net = network((6, 5, 3), dtype="float64")
    X, T = data(net, 30)
    whole, parts = gpu(net), gpu(net)
    whole.train(X, T, optimizer=fastmlp.GradientDescent(0.5), epochs=2)
    monkeypatch.setattr(trainer.Trainer, "chunks_at_once", lambda *_: 1)
    parts.train(X, T, optimizer=fastmlp.GradientDescent(0.5), epochs=2)
    assert same_bits(whole, parts)


def test_too_little_memory(monkeypatch):
    """A minibatch that does not fit is refused in words."""
    monkeypatch.setattr(cuda_data, "free_bytes", lambda: 20_000)
    net = gpu(network((6, 5, 3)))
    X, T = data(net, 500)
    with pytest.raises(MemoryError, match="smaller batch_size"):
        net.train(X, T, optimizer=fastmlp.GradientDescent(0.5), epochs=1)


def test_not_finite():
    """A number of X or T that is not finite is refused, and nothing has changed."""
    net = gpu(network((4, 3, 2)))
    X, T = data(net, 9)
    before = [W.copy() for W in net.weights]
    for name in ("X", "T"):
        bad = {"X": X.copy(), "T": T.copy()}
        bad[name][5, 1] = np.nan
        with refused(name, "nan", "row 5, column 1"):
            net.train(bad["X"], bad["T"], optimizer=fastmlp.SGD(0.1), batch_size=4, epochs=1)
    with refused("X", "inf"):
        net.forward(np.where(X == X[2, 1], np.inf, X))
    assert all(map(np.array_equal, before, net.weights))


def test_a_look_at_other_data_hides_no_divergence():
    """Passes that change nothing say nothing of the weights."""
    net = network((4, 3, 2))
    X, T = data(net, 9)
    one = trainer.Trainer(net.sizes, net.activation, net.output, net.loss, net.l2, net.dtype, 0.0)
    one.set_parameters(net.weights, net.biases)
    with np.errstate(all="ignore"):
        epochs = one.epochs(X, T, None, {"rule": "descent"}, 3)
        epochs.begin(learning_rate=np.inf)
        epochs.run(epochs.chunks)
        assert not np.isfinite(epochs.objective()) and not one.is_finite()
        look = one.epochs(X, T, None, {"rule": "evaluate"}, 9)
        look.run(look.chunks)
        look.mean_loss()
    assert not one.is_finite()


def test_divergence():
    """Training that leaves the finite numbers says so and keeps the last finite weights."""
    net = gpu(network((4, 3, 2), output="identity"))
    X, T = data(net, 9)
    with np.errstate(all="ignore"), pytest.raises(fastmlp.DivergenceError):
        net.train(X, T, optimizer=fastmlp.SGD(1e30), batch_size=3, epochs=5)
    assert all(np.isfinite(W).all() for W in net.weights)


# estimators, and what else a network does


@pytest.mark.parametrize("loss", ("squared_error", "poisson", "huber", "absolute_error"))
def test_regressor(loss):
    """Every loss of the regressor, fitted as on the CPU."""
    r = np.random.default_rng(6)
    X, y = r.random((23, 4)), r.random(23)
    fits = []
    for device in ("cpu", "cuda"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = fastmlp.MLPRegressor(loss, (5,), max_iter=2, batch_size=8, random_state=0, device=device)
            fits.append(model.fit(X, y))
    np.testing.assert_allclose(fits[1].loss_curve_, fits[0].loss_curve_, rtol=1e-9)
    np.testing.assert_allclose(fits[1].predict(X), fits[0].predict(X), rtol=1e-9)


def test_classifier():
    """Early stopping, weights and a binary target, fitted as on the CPU, partial_fit too; and a fit is pickled."""
    import pickle

    r = np.random.default_rng(7)
    X, y = r.random((40, 4)), r.integers(0, 2, 40)
    fits = []
    for device in ("cpu", "cuda"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = fastmlp.MLPClassifier(
                (5,), max_iter=2, batch_size=16, early_stopping=True, class_weight="balanced", random_state=0,
                device=device,
            )  # fmt: skip
            fits.append(model.fit(X, y))
    np.testing.assert_allclose(fits[1].validation_curve_, fits[0].validation_curve_, rtol=1e-9)
    np.testing.assert_allclose(fits[1].predict_proba(X), fits[0].predict_proba(X), rtol=1e-9)
    copy = pickle.loads(pickle.dumps(fits[1]))
    np.testing.assert_array_equal(copy.predict_proba(X), fits[1].predict_proba(X))
    models = [fastmlp.MLPClassifier((5,), random_state=0, device=device) for device in ("cpu", "cuda")]
    for model in models:
        model.partial_fit(X, y, classes=[0, 1]).partial_fit(X, y)
    np.testing.assert_allclose(models[1].coefs_[0], models[0].coefs_[0], rtol=1e-8)


def test_around_training():
    """Validation with patience, callbacks that assign weights, a copy that goes on."""
    import pickle

    net = gpu(network((4, 5, 2), l2=0.1))
    X, T = data(net, 20)
    optimizer = fastmlp.Adam(0.05)
    history = net.train(X, T, optimizer=optimizer, batch_size=8, epochs=4, validation=(X, T), patience=1)
    assert history.validation[history.n_epochs - 1] == pytest.approx(net.objective(X, T), rel=1e-6)
    copy = pickle.loads(pickle.dumps(net))
    assert copy.device == "cuda"
    for n in (net, copy):
        n.train(X, T, optimizer=optimizer, batch_size=8, epochs=1)
    assert same_bits(net, copy)
    before = [W.copy() for W in net.weights]
    net.train(X, T, optimizer=optimizer, epochs=1, callbacks=[lambda n, h: setattr(n, "weights", before)])
    assert all(map(np.array_equal, before, net.weights))


def test_every_loss_against_the_cpu():
    """The trainers' quantities for losses, outputs and limits that only the estimators use."""
    from fastmlp.cpu.trainer import Trainer as OnCPU

    r = np.random.default_rng(8)
    X, T, offsets = r.random((9, 4)), r.random((9, 3)), r.random(9)
    for output, loss in itertools.product(("identity", "exp"), ("squared_error", "poisson", "huber", "absolute_error")):
        if (output == "exp") != (loss == "poisson"):
            continue
        answers = []
        for kind in (OnCPU, trainer.Trainer):
            one = kind((4, 5, 3), "softplus", output, loss, 0.1, np.float64, 0.0)
            one.set_parameters(*([0.3 * np.ones(s) for s in shapes] for shapes in ([(4, 5), (5, 3)], [(5,), (3,)])))
            epochs = one.epochs(X, T, None, {"rule": "store"}, 9, None, offsets)
            epochs.run(epochs.chunks)
            answers.append([epochs.mean_loss(), *epochs.sums()[0]])
        assert_close(answers[1][1:], answers[0][1:], 1e-12)
        assert answers[1][0] == pytest.approx(answers[0][0], rel=1e-12)


@pytest.mark.parametrize("kind", ["reals", "labels", "csr"])
def test_many_networks_share_their_data(kind, monkeypatch):
    nets = [network([5, 4, 3], k, output="softmax", loss="log_loss") for k in range(3)]
    X, T = data(nets[0], 12)
    X = scipy.sparse.csr_matrix(X * (X > 0)) if kind == "csr" else X
    T = T.argmax(1) if kind == "labels" else T
    twins, alone, copied = [gpu(net) for net in nets], [gpu(net) for net in nets], []
    put = cuda_data.Arrays.put

    def counted(self, name, place, values, stream=0):
        copied.append((name, values.size))
        put(self, name, place, values, stream)

    monkeypatch.setattr(cuda_data.Arrays, "put", counted)
    subsets = [None, np.arange(9), np.arange(11, 2, -1)]
    histories = fastmlp.train_many(twins, X, T, fastmlp.SGD(0.1), batch_size=5, epochs=2, subsets=subsets)
    numbers = sum(size for name, size in copied if name == "reals")
    assert numbers == (X.nnz if kind == "csr" else X.size) + (0 if kind == "labels" else T.size)
    for net, twin, history, rows in zip(alone, twins, histories, subsets, strict=True):
        rows = slice(None) if rows is None else rows
        expected = net.train(X[rows], T[rows], optimizer=fastmlp.SGD(0.1), batch_size=5, epochs=2)
        assert history.objective == expected.objective
        assert same_bits(net, twin)


def test_only_data_that_stand_are_shared():
    """What is predicted beside a training, and what a fit has left behind, may have other numbers in its place."""
    nets = [network([3, 4, 1], k, output="identity") for k in range(2)]
    X, T = data(nets[0], 9)
    twins, some, found = [gpu(net) for net in nets], np.empty((4, 3)), []

    def look(net, history):
        some[...] = np.random.default_rng(len(found)).normal(size=some.shape)
        plain = fastmlp.Network(net.sizes, output="identity", random_state=0)
        plain.weights, plain.biases = net.weights, net.biases
        found.append(relative_error(net.forward(some), plain.forward(some)))

    fastmlp.train_many(twins, X, T, fastmlp.SGD(0.1), epochs=2, callbacks=[look])
    assert len(found) == 4 and max(found) < 1e-5
    from fastmlp.many import fit_together

    settings = {"hidden_layer_sizes": (4,), "solver": "lbfgs", "max_iter": 2, "random_state": 0, "device": "cuda"}
    members, targets = [fastmlp.MLPRegressor(**settings) for _ in range(3)], [T[:, 0], X[:, 1], X[:, 2]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert fit_together(members, [(X, t.tolist()) for t in targets]) == [None] * 3
        for member, t in zip(members, targets, strict=True):
            alone = fastmlp.MLPRegressor(**settings).fit(X, t.tolist())
            assert all(map(np.array_equal, member.coefs_, alone.coefs_))


@pytest.mark.parametrize("threads", (4, 7, 30) if SIMULATED else (32, 96, 256))
def test_sums_of_a_block(threads):
    """The same sum for every thread, twice in the same shared memory."""

    @cuda.jit
    def sums(values, found):
        partial, t = cuda.shared.array(0, types.float64), cuda.threadIdx.x
        found[0, t] = block_sum(partial, values[t])
        found[1, t] = block_sum(partial, 2 * values[t])

    values, on_device = np.random.default_rng(threads).standard_normal(threads), cuda.to_device(np.zeros((2, threads)))
    sums[1, threads, 0, 8 * threads](cuda.to_device(values), on_device)
    found = on_device.copy_to_host()
    assert np.allclose(found[0], math.fsum(values), rtol=1e-13, atol=1e-13)
    assert (found[0] == found[0, 0]).all() and (found[1] == 2 * found[0]).all()
    shapes = (*layout.SHAPES, *layout.WARP_SHAPES["bf16"], *layout.PASS_SHAPES, layout.STATIONARY)
    assert min(shape.threads for shape in shapes if shape) >= SUMMERS
