"""Blocks that keep the W of their hidden units, in bfloat16, against the lecture and against tiles of layers.

The simulator has no grids of several blocks: this is for a GPU, or one that is emulated (cuda_emulator.py).
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

from fastmlp.codes import ADAM, DESCENT, EVALUATE, MOMENTUM, STORE  # noqa: E402
from fastmlp.cpu.trainer import Trainer as OnCPU  # noqa: E402
from fastmlp.cuda import layout, trainer  # noqa: E402
from fastmlp.cuda.layout import StationaryShape  # noqa: E402
from fastmlp.cuda.ptx import SIMULATED  # noqa: E402

if SIMULATED:
    pytest.skip("the simulator has no grids of several blocks", allow_module_level=True)


@pytest.fixture
def plans(monkeypatch):
    """plans(blocks): trainings are made of such plans from here on, with so many blocks; of tiles, if with none."""

    def choose(blocks=16):
        def plan(sizes, activation, output, real, rows, chunks_each, rule, clip, machine, precision):
            base = layout.layout(sizes, activation, output, real, precision)
            if not blocks or rule in (STORE, EVALUATE, layout.PREDICT):
                tile = layout.shapes(real, precision)[0]
                return layout.build(tile, base, rows, chunks_each, rule, clip, 0, real, machine)
            most = machine._replace(multiprocessors=min(blocks, machine.multiprocessors))
            found = layout.build_stationary(layout.STATIONARY, base, rows, rule, real, most)
            if layout.shared_bytes(found, real) > machine.shared_bytes or found.tasks <= found.places["owners"]:
                pytest.skip(f"the GPU has too few multiprocessors or too little shared memory for {sizes}")
            return found

        monkeypatch.setattr(trainer, "plan", plan)

    choose()
    return choose


@pytest.mark.parametrize(
    ("sizes", "rows"),
    [
        ((1, 1, 1), 1), ((5, 9, 3), 11), ((15, 16, 8), 63), ((16, 17, 9), 64), ((129, 33, 16), 37),
        ((130, 128, 10), 64), ((784, 112, 10), 64),
    ],
)  # fmt: skip
def test_shapes(plans, sizes, rows):
    """Widths and numbers of examples on both sides of what a warp, a block and a product have."""
    net = network(sizes, activation="tanh", output="identity", l2=0.02)
    assert_step(net, *data(net, rows))


@pytest.mark.parametrize(("n", "output", "loss"), [(n, *o) for n, o in enumerate(OUTPUTS)])
def test_outputs(plans, n, output, loss):
    """Every output and loss, and every activation on the way, with weights, one of them zero."""
    net = network((5, 20, 3), activation=ACTIVATIONS[n % len(ACTIVATIONS)], output=output, loss=loss)
    X, T = data(net, 11, seed=2)
    weight = np.random.default_rng(2).random(11)
    weight[4] = 0.0
    assert_step(net, X, T, weight)


def test_other_losses(plans):
    """Losses that only the estimators have, with what is added to them, and a user's functions."""
    assert_other_losses(trainer.Trainer, OnCPU)


RULES = {
    "descent": ("SGD", {"learning_rate": 0.3, "weight_decay": 0.1}),
    "momentum": ("SGD", {"learning_rate": 0.1, "momentum": 0.9}),
    "nesterov": ("SGD", {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "adam": ("Adam", {"learning_rate": 0.01, "epsilon": 1e-3}),
}


@pytest.mark.parametrize("rule", RULES)
def test_rules(plans, rule):
    """By every rule two epochs of more minibatches than are gathered ahead, the last one smaller, and a third epoch."""
    net = network((5, 40, 3), activation="tanh", output="softmax", loss="log_loss", l2=0.02)
    X, T = data(net, 90)
    twin, (name, settings) = on_gpu(net), RULES[rule]
    ours, theirs = (getattr(package, name)(**settings) for package in (fastmlp, reference))
    found = [twin.train(X, T, optimizer=ours, batch_size=13, epochs=n, shuffle=False) for n in (2, 1)]
    expected = reference.train(lecture(net), X, T, theirs, 3, batch_size=13)
    assert_close(changes(twin, net), changes(expected.net, net), LOW_TOLERANCE)
    objective = [J for history in found for J in history.objective]
    np.testing.assert_allclose(objective, expected.objective, rtol=LOW_TOLERANCE)


def test_dropout(plans):
    """The same units are left out as on the CPU, forward and back."""
    net = network((6, 21, 3), activation="tanh", dropout=0.25)
    X, T = data(net, 40)
    twins = [on_gpu(net), net]
    start = [np.array(p, np.float64) for p in (*net.weights, *net.biases)]
    for twin in twins:
        twin.random_state = 3
        twin.train(X, T, optimizer=fastmlp.SGD(0.5), batch_size=25, epochs=1, shuffle=False)
    moved = [[np.asarray(a, np.float64) - b for a, b in zip((*t.weights, *t.biases), start)] for t in twins]
    assert_close(*moved, LOW_TOLERANCE)


def test_tiles_agree(plans):
    """The tiled kernels of the precision come to nearly the same weights."""
    net = network((9, 17, 4), activation="logistic", output="logistic", loss="log_loss")
    X, T = data(net, 20)
    found = []
    for blocks in (16, 0):
        plans(blocks)
        found.append(on_gpu(net))
        found[-1].train(X, T, optimizer=fastmlp.SGD(0.5), batch_size=10, epochs=1, shuffle=False)
    assert_close(changes(found[0], net), changes(found[1], net), LOW_TOLERANCE)
    assert not same_bits(*found)


def test_same_bits(plans, monkeypatch):
    """Whatever gathers the data, and wherever they come from: bytes, CSR, class labels, windows of them."""
    net = network((6, 25, 3), activation="relu", output="softmax", loss="log_loss")
    r = np.random.default_rng(4)
    X, y = r.integers(0, 5, (75, 6)), r.integers(0, 3, 75)
    twins = []
    for blocks, x, t, at_once in (
        (3, X.astype(np.float32), y, None),
        (5, X.astype(np.uint8), np.eye(3, dtype=np.float32)[y], None),
        (16, scipy.sparse.csr_matrix(X.astype(np.float32)), y, None),
        (16, X.astype(np.float32), y, 3),
    ):
        plans(blocks)
        if at_once is not None:
            monkeypatch.setattr(trainer.Trainer, "chunks_at_once", lambda *arguments: at_once)  # noqa: B023
        twins.append(on_gpu(net))
        twins[-1].train(x, t, optimizer=fastmlp.Adam(0.01), batch_size=10, epochs=2)
    assert same_bits(*twins) and not same_bits(net, *twins)


@pytest.mark.parametrize("rule", ["descent", "momentum", "adam"])
def test_launches(plans, rule):
    """An epoch in one launch or several: the same bits of W and of J, which are those of the CPU to rounding."""
    r = np.random.default_rng(0)
    X, T = (r.standard_normal(s).astype(np.float32) for s in ((77, 13), (77, 3)))
    weight, offsets = r.random(77), r.random(77)
    weight[10:20] = weight[70:] = 0.0  # all of a minibatch, and of the last one
    start = [0.3 * r.standard_normal(s) for s in ((13, 20), (20, 3))], [0.3 * r.standard_normal(s) for s in (20, 3)]
    settings = {"rule": rule, "weight_decay": 0.1, "momentum": 0.9, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-3}
    found = []
    for kind, precision, at_once in ((OnCPU, "float32", 8), (trainer.Trainer, "bf16", 8), (trainer.Trainer, "bf16", 3)):
        network = (13, 20, 3), "tanh", "identity", "squared_error", 0.1, np.float32, 0.0, rule == "adam"
        one = kind(*network, precision=precision)
        one.set_parameters(*start)
        one.start_moments(["descent", "momentum", "adam"].index(rule))
        epochs = one.epochs(X, T, weight, settings, 10, "shuffled", offsets)
        epochs.begin(learning_rate=0.05, order_seed=3)
        while epochs.done < epochs.chunks:
            epochs.run(min(epochs.chunks, epochs.done + at_once))
        epochs.run(epochs.chunks)  # nothing
        moved = [now - then for after, before in zip(one.parameters(), start) for now, then in zip(after, before)]
        found.append((epochs.objective(), moved))
    assert found[1][0] == pytest.approx(found[0][0], rel=LOW_TOLERANCE)
    assert_close(found[1][1], found[0][1], LOW_TOLERANCE)
    assert found[1][0] == found[2][0] and all(map(np.array_equal, found[1][1], found[2][1]))


def test_poisoned_room(plans):
    """What an earlier minibatch, or epoch, has left is never read, nor is it where there is nothing."""
    net = network((6, 20, 3), activation="tanh")
    X, T = data(net, 36)
    found = []
    for poison in (False, True):
        one = trainer.Trainer(net.sizes, net.activation, net.output, net.loss, 0.0, net.dtype, 0.0, precision="bf16")
        one.set_parameters(net.weights, net.biases)
        one.start_moments(1)
        epochs = one.epochs(X, T, None, {"rule": "momentum", "momentum": 0.5}, 20)
        if poison:
            plan, room = epochs.launch.plan, epochs.launch.room.copy_to_host()
            first, places, buffers = plan.layers[0], plan.places, layout.BUFFERS
            assert isinstance(plan.shape, StationaryShape)
            rows = room[first["a_in_read"] :][: buffers * places["bottom_size"]].view(np.uint16)
            rows.reshape(-1, 2 * first["in_words"])[:, : first["n_in"]] = 0x7FFF  # the padding is made once, of zeros
            room[places["targets"] :][: buffers * places["targets_size"]] = np.nan
            room[places["row_weights"] :][: buffers * places["rows"]] = np.nan
            room[places["moments"] :] = np.nan
            epochs.launch.room.copy_to_device(room)
        epochs.begin(learning_rate=0.5)
        epochs.run(epochs.chunks)
        found.append([epochs.objective(), *one.parameters()[0]])
    assert found[0][0] == found[1][0] and all(map(np.array_equal, found[0][1:], found[1][1:]))


def test_not_finite(plans):
    """A training that diverges is told of, and leaves finite weights; so is X with a NaN."""
    net = network((5, 20, 3), activation="relu", output="identity")
    X, T = data(net, 40)
    twin = on_gpu(net)
    with pytest.raises(Exception, match="diverged"):
        twin.train(X, T, optimizer=fastmlp.SGD(1e30), batch_size=10, epochs=3)
    assert all(np.isfinite(W).all() for W in (*twin.weights, *twin.biases))
    X[7, 2] = np.nan
    with pytest.raises(ValueError, match="X"):
        on_gpu(net).train(X, T, optimizer=fastmlp.SGD(0.1), batch_size=10, epochs=1)


def test_plan():
    """Which trainings are made so; the sums are a matter of shapes alone."""
    large, small = layout.Machine(), layout.Machine(multiprocessors=24, shared_bytes=99 << 10)

    def plan(sizes, rows=64, rule=DESCENT, precision="bf16", machine=large, clip=False, chunks=1):
        return layout.plan.__wrapped__(
            sizes, "relu", "identity", np.float32, rows, chunks, rule, clip, machine, precision
        )

    taken = (
        plan((784, 128, 10)),
        plan((64, 100, 10), rule=ADAM),
        plan((1, 1, 1), 1),
        plan((200, 128, 16), machine=small),
    )
    for found, tasks in zip(taken, (8 + 4 * 16, 7 + 4, 1 + 4, 8 + 16)):  # four minibatches are gathered at once
        assert isinstance(found.shape, StationaryShape) and found.seconds < 5e-6
        assert found.tasks == tasks and found.places["owners"] < tasks
    room = [plan((784, 128, 10), rule=rule).room for rule in (DESCENT, MOMENTUM, ADAM)]
    assert room[2] - room[1] == room[1] - room[0] == 8 * layout.STATIONARY.entries * layout.STATIONARY.threads
    for other in (
        plan((784, 128, 10), 65), plan((784, 129, 10)), plan((784, 128, 17)), plan((897, 128, 10)),
        plan((784, 128, 128, 10)), plan((784, 10)), plan((784, 128, 10), rule=STORE), plan((64, 9, 3), rule=EVALUATE),
        plan((64, 9, 3), rule=layout.PREDICT), plan((784, 128, 10), precision="tf32"), plan((64, 9, 3), clip=True),
        plan((64, 9, 3), chunks=2), plan((784, 128, 10), machine=small),
        plan((64, 128, 10), machine=small._replace(multiprocessors=8)),
    ):  # fmt: skip
        assert not isinstance(other.shape, StationaryShape)
