"""Passes of a block's examples through all layers, in bfloat16, against the lecture and against tiles of layers.

What is not of a pass, the forward pass alone and gradients that are asked for, other kernels do: so the gradients are
seen here by the steps that are taken along them.
"""

import numpy as np
import pytest
import reference
import scipy.sparse
from cases import (
    ACTIVATIONS,
    LOW_TOLERANCE,
    OUTPUTS,
    assert_close,
    assert_other_losses,
    assert_step,
    changes,
    data,
    lecture,
    network,
    on_gpu,
    same_bits,
)

import fastmlp
from fastmlp import devices

if devices.cuda_problem() is not None:
    pytest.skip(devices.cuda_problem().message, allow_module_level=True)

from fastmlp.codes import ADAM, DESCENT, EVALUATE, STORE  # noqa: E402
from fastmlp.cpu.trainer import Trainer as OnCPU  # noqa: E402
from fastmlp.cuda import launch, layout, trainer  # noqa: E402
from fastmlp.cuda.layout import PassShape  # noqa: E402
from fastmlp.cuda.ptx import SIMULATED  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("quick_simulator", "dirty_memory"),
    pytest.mark.filterwarnings("ignore:divide by zero"),  # of examples that are not there
]

STAGES = launch.STAGES if SIMULATED else launch.GRAPH
SMALL = PassShape(32, 16) if SIMULATED else PassShape(32, 128)


@pytest.fixture
def dirty_memory(monkeypatch):
    """A block's shared memory begins as NaN, as on a GPU it may."""
    if SIMULATED:
        from numba.cuda.simulator import kernelapi

        begin = kernelapi.FakeCUDAShared.__init__

        def begin_dirty(self, size):
            begin(self, size)
            self._dynshared[:] = -1  # each byte

        monkeypatch.setattr(kernelapi.FakeCUDAShared, "__init__", begin_dirty)


@pytest.fixture
def passes(monkeypatch):
    """passes(shape, mode): trainings are made of such passes from here on, or of tiles if the shape is None."""

    def choose(shape=SMALL, mode=launch.COOPERATIVE):
        def plan(sizes, activation, output, real, rows, chunks_each, rule, clip, machine, precision):
            base = layout.layout(sizes, activation, output, real, precision)
            if shape is None or rule in (STORE, EVALUATE, layout.PREDICT):
                tile = layout.shapes(real, precision)[0]
                return layout.build(tile, base, rows, chunks_each, rule, clip, 0, real, machine)
            found = layout.build_pass(shape, base, rows, chunks_each, rule, clip, real, machine)
            if layout.shared_bytes(found, real) > machine.shared_bytes:
                assert machine.shared_bytes < layout.Machine().shared_bytes
                pytest.skip(f"the GPU has no shared memory for passes of {shape.rows} x {shape.width}")
            return found

        monkeypatch.setattr(trainer, "plan", plan)
        monkeypatch.setattr(launch, "mode_of", lambda plan: mode)

    return choose


SHAPES = [
    (PassShape(32, 32), (5, 18, 9, 3), 41),
    (PassShape(32, 16), (1, 1), 1),
    (PassShape(32, 16), (32, 32, 32), 16),
    (PassShape(32, 32), (31, 17, 17), 15),
    (PassShape(64, 16), (40, 64, 33, 2), 17),
    (PassShape(128, 16), (128, 70, 5), 9),
]
if not SIMULATED:
    SHAPES = [(shape, sizes, rows) for sizes in ((5, 18, 9, 3), (32, 32, 32)) for shape in layout.PASS_SHAPES
              for rows in (1, 63, 129, 5000)]  # fmt: skip
    SHAPES += [(layout.PASS_SHAPES[1], (64,) * 5, 16384), (layout.PASS_SHAPES[2], (128, 128, 128, 10), 16384)]


@pytest.mark.parametrize(("shape", "sizes", "rows"), SHAPES)
def test_shapes(passes, shape, sizes, rows):
    """Widths and numbers of examples on both sides of what a warp, a block and a product have."""
    passes(shape)
    net = network(sizes, activation="tanh", output="identity", l2=0.02)
    assert_step(net, *data(net, rows))


@pytest.mark.parametrize(("n", "output", "loss"), [(n, *o) for n, o in enumerate(OUTPUTS)])
def test_outputs(passes, n, output, loss):
    """Every output and loss, and every activation on the way, with weights, one of them zero."""
    passes(mode=STAGES)
    net = network((5, 7, 3), activation=ACTIVATIONS[n % len(ACTIVATIONS)], output=output, loss=loss)
    X, T = data(net, 11, seed=2)  # with no z within rounding of ReLU's kink
    weight = np.random.default_rng(2).random(11)
    weight[4] = 0.0
    assert_step(net, X, T, weight)


def test_other_losses(passes):
    """Losses that only the estimators have, with what is added to them, and a user's functions."""
    passes()
    assert_other_losses(trainer.Trainer, OnCPU)


RULES = {
    "nesterov": ("SGD", {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "clipped": ("SGD", {"learning_rate": 0.3, "max_gradient_norm": 0.05}),
    "adam": ("Adam", {"learning_rate": 0.01, "epsilon": 1e-3}),
}


@pytest.mark.parametrize("rule", RULES)
def test_rules(passes, monkeypatch, rule):
    """Four updates by every rule, the sums being made of several parts of several tiles, in several chunks."""
    if SIMULATED:
        monkeypatch.setattr(layout, "MOST_PARTS", 2)
        monkeypatch.setattr(trainer, "CHUNK_ROWS", 40 if rule == "clipped" else 60)
    passes(mode=STAGES if rule == "adam" else launch.COOPERATIVE)
    net = network((5, 9, 3), activation="tanh", output="softmax", loss="log_loss", l2=0.02)
    X, T = data(net, 90)
    twin, (name, settings) = on_gpu(net), RULES[rule]
    ours, theirs = (getattr(package, name)(**settings) for package in (fastmlp, reference))
    history = twin.train(X, T, optimizer=ours, batch_size=55, epochs=2, shuffle=False)
    expected = reference.train(lecture(net), X, T, theirs, 2, batch_size=55)
    assert_close(changes(twin, net), changes(expected.net, net), LOW_TOLERANCE)
    np.testing.assert_allclose(history.objective, expected.objective, rtol=LOW_TOLERANCE)


def test_dropout(passes):
    """The same units are left out as on the CPU, forward and back."""
    passes()
    net = network((6, 12, 7, 3), activation="tanh", dropout=0.25)
    X, T = data(net, 40)
    twins = [on_gpu(net), net]
    start = [np.array(p, np.float64) for p in (*net.weights, *net.biases)]
    for twin in twins:
        twin.random_state = 3
        twin.train(X, T, optimizer=fastmlp.SGD(0.5), batch_size=25, epochs=1, shuffle=False)
    moved = [[np.asarray(a, np.float64) - b for a, b in zip((*t.weights, *t.biases), start)] for t in twins]
    assert_close(*moved, LOW_TOLERANCE)


def test_tiles_agree(passes):
    """The tiled kernels of the precision come to nearly the same weights."""
    net = network((9, 17, 4), activation="logistic", output="logistic", loss="log_loss")
    X, T = data(net, 20)
    found = []
    for shape in (SMALL, None):
        passes(shape)
        found.append(on_gpu(net))
        found[-1].train(X, T, optimizer=fastmlp.SGD(0.5), batch_size=10, epochs=1, shuffle=False)
    assert_close(changes(found[0], net), changes(found[1], net), LOW_TOLERANCE)
    assert not same_bits(*found)


def test_same_bits(passes):
    """Run again, in one kernel and by stages, and from bytes, CSR and class labels: the same bits."""
    net = network((6, 5, 3), activation="relu", output="softmax", loss="log_loss")
    r = np.random.default_rng(4)
    X, y = r.integers(0, 5, (35, 6)), r.integers(0, 3, 35)
    twins = []
    for mode, x, t in (
        (launch.COOPERATIVE, X.astype(np.float32), y),
        (STAGES, X.astype(np.uint8), np.eye(3, dtype=np.float32)[y]),
        (launch.COOPERATIVE, scipy.sparse.csr_matrix(X.astype(np.float32)), y),
    ):
        passes(mode=mode)
        twins.append(on_gpu(net))
        twins[-1].train(x, t, optimizer=fastmlp.Adam(0.01), batch_size=20, epochs=1)
    assert same_bits(*twins) and not same_bits(net, *twins)


def test_poisoned_room(passes):
    """What an earlier chunk has left is never read: all but the padding may be NaN when an epoch begins."""
    passes()
    net = network((6, 11, 3), activation="tanh")
    X, T = data(net, 36)
    found = []
    for poison in (False, True):
        one = trainer.Trainer(net.sizes, net.activation, net.output, net.loss, 0.0, net.dtype, 0.0, precision="bf16")
        one.set_parameters(net.weights, net.biases)
        epochs = one.epochs(X, T, None, {"rule": "descent"}, 20)
        if poison:
            plan, room = epochs.launch.plan, epochs.launch.room.copy_to_host()
            first, top, places = plan.layers[0], plan.layers[-1], plan.places
            rows = room[first["a_in_read"] :][: plan.rows * first["in_words"]].view(np.uint16).reshape(plan.rows, -1)
            rows[:, : first["n_in"]] = 0x7FFF
            rows = room[places["targets"] :][: plan.rows * top["out_stride"]].reshape(plan.rows, -1)
            rows[:, : top["n_out"]] = np.nan
            room[places["row_weights"] :][: plan.rows] = np.nan
            entries = one._flat(*([np.ones_like(a) for a in arrays] for arrays in one.parameters())) > 0
            room[places["gradients"] : plan.room].reshape(-1, entries.size)[:, entries] = np.nan
            epochs.launch.room.copy_to_device(room)
        epochs.begin(learning_rate=0.5)
        epochs.run(epochs.chunks)
        found.append([epochs.objective(), *one.parameters()[0]])
    assert found[0][0] == found[1][0] and all(map(np.array_equal, found[0][1:], found[1][1:]))


def test_plan(monkeypatch):
    """Which trainings are made of passes, in which shapes; the parts are a matter of shapes alone."""
    shapes = PassShape(32, 128), PassShape(64, 128), PassShape(128, 64)
    monkeypatch.setattr(layout, "PASS_SHAPES", shapes)
    large, small = layout.Machine(), layout.Machine(multiprocessors=108, shared_bytes=(163 << 10) - 1024)

    def plan(sizes, rows=16384, rule=ADAM, precision="bf16", machine=large, chunks=1):
        return layout.plan.__wrapped__(
            tuple(sizes), "relu", "identity", np.float32, rows, chunks, rule, False, machine, precision
        )

    assert [plan((n, n, n)).shape for n in (32, 33, 64, 65, 128)] == [shapes[k] for k in (0, 1, 1, 2, 2)]
    for other in (
        plan((64, 129, 64)), plan((129, 64)), plan((64,) * 4, rule=STORE), plan((64,) * 4, rule=EVALUATE),
        plan((64,) * 4, rule=layout.PREDICT), plan((64,) * 4, precision="tf32"), plan((128,) * 12), plan((32,) * 40),
    ):  # fmt: skip
        assert not isinstance(other.shape, PassShape)
    target = [plan((64,) * 5, machine=machine) for machine in (large, small)]
    for found in target:  # a block a part, and a barrier behind each of two stages
        assert found.shape == shapes[1] and found.stages["tasks"].tolist()[1] == 128 and len(found.stages) == 3
    assert target[0].places == target[1].places
    wide = plan((128, 128, 10), rule=DESCENT)
    assert wide.stages["tasks"][1] == 128 and wide.operations["slice_rows"][1] == 128
    assert len(plan((64,) * 5, chunks=2).stages) == 4
