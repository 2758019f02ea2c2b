"""Training: every optimizer against the lecture, epochs, stopping, state, dropout, divergence (contracts 2 and 3)."""

import copy
import math
import signal

import numpy as np
import pytest
import reference
import scipy.optimize
from cases import (
    ACTIVATIONS,
    DTYPES,
    OUTPUTS,
    TOLERANCE,
    assert_close,
    assert_parameters,
    data,
    lecture,
    network,
    refused,
    relative_error,
    same_bits,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import fastmlp

RULES = {
    "sgd": ("SGD", {"learning_rate": 0.3}),
    "momentum": ("SGD", {"learning_rate": 0.1, "momentum": 0.9}),
    "nesterov": ("SGD", {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
    "sgd decay": ("SGD", {"learning_rate": 0.3, "weight_decay": 0.1}),
    "sgd clipped": ("SGD", {"learning_rate": 0.3, "max_gradient_norm": 0.4}),
    "sgd everything": (
        "SGD",
        {
            "learning_rate": lambda epoch: 0.3 / (1 + epoch),
            "momentum": 0.8,
            "nesterov": True,
            "weight_decay": 0.05,
            "max_gradient_norm": 0.4,
        },
    ),
    "adam": ("Adam", {"learning_rate": 0.01}),
    "adam defaults": ("Adam", {}),
    "adam settings": ("Adam", {"learning_rate": 0.01, "beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3}),
    "adam decay": ("Adam", {"learning_rate": 0.01, "weight_decay": 0.5}),
    "adam clipped": ("Adam", {"learning_rate": 0.01, "epsilon": 0.01, "max_gradient_norm": 0.1}),
    "adam everything": (
        "Adam",
        {
            "learning_rate": lambda epoch: 0.02 * 0.5**epoch,
            "beta_1": 0.0,
            "beta_2": 0.95,
            "epsilon": 1e-4,
            "weight_decay": 0.1,
            "max_gradient_norm": 0.4,
        },
    ),
}
GOING_ON = {
    "descent": fastmlp.GradientDescent(0.5),
    "sgd": fastmlp.SGD(0.3),
    "nesterov": fastmlp.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": fastmlp.Adam(0.01, weight_decay=0.1, max_gradient_norm=1.0),
}


def assert_trained(net, X, T, rule, epochs=4, batch_size=None, sample_weight=None):
    """Contract 2 still holds after training in the given order: weights, biases, and the history's objective."""
    name, arguments = rule
    tolerance = TOLERANCE[np.dtype(net.dtype).name]
    run = reference.train(
        lecture(net), X, T, getattr(reference, name)(**arguments), epochs, batch_size, sample_weight=sample_weight
    )
    history = net.train(
        X,
        T,
        optimizer=getattr(fastmlp, name)(**arguments),
        epochs=epochs,
        batch_size=batch_size,
        shuffle=False,
        sample_weight=sample_weight,
    )
    assert_parameters(net, run.net, tolerance)
    np.testing.assert_allclose(history.objective, run.objective, rtol=tolerance)
    assert history.n_epochs == epochs and history.stopped == "epochs"
    return run


def parameters(net):
    return [*net.weights, *net.biases]


def regression(dtype="float64"):
    """Linear least squares, noisy enough that no fit is perfect."""
    net = network([3, 1], output="identity", dtype=dtype)
    return net, *data(net, 40)


# the update rules


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_rules(rule, dtype):
    """Eq. 12-13 by every optimizer: hidden layers of several tiles, a penalty, a ragged last minibatch."""
    net = network([11, 33, 9, 3], activation="tanh", dtype=dtype, l2=0.01)
    assert_trained(net, *data(net, 53), rule, batch_size=8)


@pytest.mark.parametrize("rule", ["sgd everything", "adam everything"])
def test_every_setting_matters(rule):
    """What is compared above would show the loss of any one setting: the lecture's own result moves without it."""
    net = network([11, 33, 9, 3], activation="tanh", dtype="float64", l2=0.01)
    name, arguments = RULES[rule]
    X, T = data(net, 53)

    def trained(**arguments):
        return reference.train(lecture(net), X, T, getattr(reference, name)(**arguments), 4, 8).net.weights[0]

    for setting in set(arguments) - {"learning_rate"}:
        fewer = {key: value for key, value in arguments.items() if key != setting}
        assert relative_error(trained(**fewer), trained(**arguments)) > 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
def test_adam_leaves_alone_what_has_no_gradient(dtype):
    """An epsilon that is zero in the network's dtype makes no 0 / 0 of weights whose gradient has always been zero."""
    net = network([4, 6, 3], dtype=dtype)
    X, T = data(net, 20)
    X[:, 2] = 0.0
    before = net.weights[0].copy()
    net.train(X, T, optimizer=fastmlp.Adam(0.01, epsilon=1e-323), batch_size=7, epochs=2)
    assert np.array_equal(net.weights[0][2], before[2]) and np.isfinite(net.weights[0]).all()
    assert not np.array_equal(net.weights[0], before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_adam_of_gradients_whose_squares_are_zero(dtype):
    """However small epsilon, no step is much longer than the learning rate."""
    net = network([4, 6, 3], dtype=dtype)
    X, T = data(net, 20)
    X = X.astype(dtype)
    X[:, 2] *= 1e-22 if dtype == "float32" else 1e-165
    before = net.weights[0].copy()
    net.train(X, T, optimizer=fastmlp.Adam(0.01, epsilon=1e-323), batch_size=20, epochs=2)
    step = np.abs(net.weights[0] - before)
    assert (step[[0, 1, 3]] > 0.001).all() and step.max() < 0.03 and step[2].max() < 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("output", "loss"), OUTPUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_functions(activation, output, loss, dtype):
    """Every activation with every output and loss through the epoch kernel."""
    net = network([7, 17, 9, 3], activation=activation, output=output, loss=loss, dtype=dtype, l2=0.01)
    rule = ("SGD", {"learning_rate": 0.05, "momentum": 0.5, "max_gradient_norm": 1.0})
    assert_trained(net, *data(net, 37), rule, epochs=2, batch_size=16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("sizes", "m", "batch_size"),
    [
        ([1, 1], 1, 1),
        ([1, 1, 1], 5, 2),
        ([5, 3], 17, 1),
        ([2, 64, 1], 33, 32),
        ([33, 65, 2], 66, 33),
        ([64, 64, 64], 65, 64),
        ([70, 31, 7], 129, 128),
        ([16, 16, 16, 16], 47, 15),
        ([9, 129, 17], 31, 17),
        ([3, 7, 10], 520, 257),
        ([4, 5, 3], 600, None),
        ([4, 5, 3], 53, None),
        ([4, 5, 3], 53, 100),
        ([300, 5, 3], 20, 7),
        ([5, *[9] * 18, 3], 20, 9),
    ],
)
def test_shapes(sizes, m, batch_size, dtype):
    """Ragged widths, rows and minibatches; batch_size is min(200, m) by default and never more than m."""
    net = network(sizes, activation="softplus", dtype=dtype, l2=0.01)
    rule = ("SGD", {"learning_rate": 0.1, "momentum": 0.5})
    size = min(200, m) if batch_size is None else batch_size
    X, T = data(net, m)
    twin = network(sizes, activation="softplus", dtype=dtype, l2=0.01)
    assert_trained(net, X, T, rule, epochs=2, batch_size=size)
    if batch_size is None:
        twin.train(X, T, optimizer=fastmlp.SGD(0.1, momentum=0.5), epochs=2, shuffle=False)
        assert same_bits(net, twin)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", ["descent", "momentum", "adam clipped"])
def test_sample_weight(rule, dtype):
    """Weighted means: each minibatch by its own sum of weights; examples of weight 0 count for nothing."""
    net = network([5, 17, 3], output="softmax", loss="log_loss", dtype=dtype, l2=0.01)
    X, T = data(net, 53)
    weight = np.random.default_rng(0).random(53).astype(np.float32)
    weight[[3, 20]] = 0
    rule = {**RULES, "descent": ("GradientDescent", {"learning_rate": 0.5})}[rule]
    batch_size = None if rule[0] == "GradientDescent" else 8
    assert_trained(net, X, T, rule, batch_size=batch_size, sample_weight=weight)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [1, 53, 255, 256, 257, 300, 513, 1000])
def test_gradient_descent(m, dtype):
    """The lecture's algorithm: U and V over all the examples, in chunks of rows, one update an epoch."""
    net = network([5, 17, 3], dtype=dtype, l2=0.01)
    assert_trained(net, *data(net, m), ("GradientDescent", {"learning_rate": 0.5}), epochs=3)


def test_gradient_descent_schedule():
    net = network([5, 17, 3])
    rule = ("GradientDescent", {"learning_rate": lambda epoch: 0.5 / (1 + epoch)})
    assert_trained(net, *data(net, 53), rule)


@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    m=st.integers(1, 70),
    batch_size=st.integers(1, 80),
    activation=st.sampled_from(ACTIVATIONS),
    pair=st.sampled_from(OUTPUTS),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=60)
def test_any_training(sizes, m, batch_size, activation, pair, dtype, seed):
    if pair[0] == "softmax":
        sizes[-1] += 1
    net = network(sizes, seed, activation=activation, output=pair[0], loss=pair[1], dtype=dtype, l2=0.01)
    rule = ("SGD", {"learning_rate": 0.02, "momentum": 0.5, "nesterov": True, "max_gradient_norm": 2.0})
    assert_trained(net, *data(net, m, seed + 1), rule, epochs=2, batch_size=batch_size)


# the order of the examples


def test_shuffle_visits_every_example_once():
    """On one-hot rows from W = b = 0, the k-th example seen leaves its weight at lr (1 - lr)^k; a second epoch, and
    another seed, have other orders; shuffle=False keeps theirs."""
    m, lr = 40, 0.01
    orders = []
    for seed, shuffle in ((0, True), (1, True), (0, False)):
        net = fastmlp.Network([m, 1], output="identity", dtype="float64", random_state=seed)
        for _ in range(2):
            net.weights, net.biases = [np.zeros((m, 1))], [np.zeros(1)]
            net.train(np.eye(m), np.ones(m), optimizer=fastmlp.SGD(lr), batch_size=1, epochs=1, shuffle=shuffle)
            W = net.weights[0][:, 0]
            np.testing.assert_allclose(np.sort(W)[::-1], lr * (1 - lr) ** np.arange(m), rtol=1e-12)
            orders.append(tuple(np.argsort(-W)))
    assert orders[4] == orders[5] == tuple(range(m))
    assert len(set(orders)) == 5


def test_shuffled_minibatches_partition_the_examples():
    """With steps too small to matter, J averaged over the minibatches is J over all the examples, each once."""
    net = network([3, 5, 2], dtype="float64", l2=0.1)
    X, T = data(net, 53)
    history = net.train(X, T * 2.0 ** np.arange(53)[:, None], optimizer=fastmlp.SGD(1e-30), batch_size=7, epochs=3)
    np.testing.assert_allclose(history.objective, net.objective(X, T * 2.0 ** np.arange(53)[:, None]), rtol=1e-12)


# state


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", GOING_ON)
def test_epochs_add_up(name, dtype, dropout):
    """epochs=2 then epochs=3 equals epochs=5 to the bit, shuffled, dropout included."""
    twice, once = (network([4, 17, 3], dtype=dtype, dropout=dropout) for _ in range(2))
    X, T = data(once, 53)
    more = {} if name == "descent" else {"batch_size": 8}
    histories = [twice.train(X, T, optimizer=copy.deepcopy(GOING_ON[name]), epochs=k, **more) for k in (2, 3)]
    history = once.train(X, T, optimizer=GOING_ON[name], epochs=5, **more)
    assert same_bits(twice, once)
    assert histories[0].objective + histories[1].objective == history.objective
    assert [h.n_epochs for h in histories] == [2, 3]


@pytest.mark.parametrize(
    "between",
    [
        lambda net: setattr(net, "weights", net.weights),
        lambda net: setattr(net, "biases", net.biases),
        lambda net: net.train(*data(net, 53), optimizer=fastmlp.SGD(1e-3), epochs=1),
        lambda net: net.train(*data(net, 53), optimizer=fastmlp.SGD(0.1, momentum=0.8), epochs=1),
    ],
    ids=["weights", "biases", "another optimizer", "other settings"],
)
@pytest.mark.parametrize("optimizer", [fastmlp.SGD(0.1, momentum=0.9), fastmlp.Adam(0.01)], ids=["sgd", "adam"])
def test_fresh_state(optimizer, between):
    """Assigning parameters, or training with another optimizer, starts the optimizer's state afresh."""
    net = network([4, 7, 3])
    X, T = data(net, 53)
    net.train(X, T, optimizer=optimizer, epochs=2, shuffle=False)
    between(net)
    fresh = network([4, 7, 3])
    fresh.weights, fresh.biases = net.weights, net.biases
    for each in (net, fresh):
        each.train(X, T, optimizer=optimizer, epochs=2, shuffle=False)
    assert same_bits(net, fresh)


def test_assigning_keeps_the_shuffling_generator():
    """After an assignment the shuffling goes on: from the same weights, the next epoch has another order."""
    net = network([4, 7, 3])
    X, T = data(net, 53)
    start, ends = (net.weights, net.biases), []
    for _ in range(2):
        net.weights, net.biases = start
        net.train(X, T, optimizer=fastmlp.SGD(0.3), batch_size=8, epochs=1)
        ends.append(net.weights[0])
    assert not np.array_equal(*ends)


def test_random_state_decides_everything():
    """Training is a function of the seed."""
    nets = [fastmlp.Network([4, 7, 3], dropout=0.2, random_state=seed) for seed in (5, 5, 6)]
    X, T = data(nets[0], 53)
    for net in nets:
        net.train(X, T, optimizer=fastmlp.Adam(0.01), batch_size=8, epochs=3)
    assert same_bits(*nets[:2]) and not same_bits(*nets[1:])


# history and callbacks


def test_history():
    net = network([4, 7, 3])
    X, T = data(net, 53)
    history = net.train(X, T, optimizer=fastmlp.SGD(0.1), epochs=3, validation=(X[:10], T[:10]))
    assert isinstance(history, fastmlp.History)
    assert history.n_epochs == 3 == len(history.objective) == len(history.validation)
    assert all(isinstance(J, float) for J in [*history.objective, *history.validation])
    assert isinstance(history.seconds, float) and history.seconds >= 0 and history.stopped == "epochs"


@pytest.mark.parametrize("optimizer", [fastmlp.SGD(0.1), fastmlp.GradientDescent(0.1), fastmlp.LBFGS()])
def test_validation(optimizer):
    """The objective of the validation data after each epoch."""
    net = network([4, 7, 3], dtype="float64")
    X, T = data(net, 53)
    seen = []
    history = net.train(
        X[:40],
        T[:40],
        optimizer=optimizer,
        epochs=4,
        validation=(X[40:], T[40:]),
        callbacks=[lambda net, history: seen.append(net.objective(X[40:], T[40:]))],
    )
    np.testing.assert_allclose(history.validation, seen, rtol=1e-13)


@pytest.mark.parametrize(
    "optimizer", [fastmlp.SGD(0.1), fastmlp.Adam(), fastmlp.GradientDescent(0.1), fastmlp.LBFGS()], ids=repr
)
def test_callbacks(optimizer):
    """Called after every epoch with the network and the history so far; True from any of them stops."""
    net = network([4, 7, 3])
    X, T = data(net, 53)
    seen = []

    def record(network, history):
        assert network is net
        seen.append((history.n_epochs, len(history.objective), network.weights[0]))

    history = net.train(
        X, T, optimizer=optimizer, epochs=9, callbacks=[record, lambda _, h: h.n_epochs == 3, lambda *_: None]
    )
    assert [numbers[:2] for numbers in seen] == [(1, 1), (2, 2), (3, 3)]
    assert history.stopped == "callback" and history.n_epochs == 3
    assert np.array_equal(seen[-1][2], net.weights[0]) and not np.array_equal(seen[0][2], seen[1][2])


def test_callback_error_passes():
    net = network([4, 7, 3])
    X, T = data(net, 53)
    with pytest.raises(ZeroDivisionError):
        net.train(X, T, optimizer=fastmlp.SGD(0.1), epochs=3, callbacks=[lambda *_: 1 / 0])
    net.train(X, T, optimizer=fastmlp.SGD(0.1), epochs=1)


def test_interrupted(ctrl_c):
    """Ctrl-C ends the training with the weights of that moment, and says so."""
    net = network([4, 7, 3])
    X, T = data(net, 53)

    def interrupt(_, history):
        if history.n_epochs == 2:
            signal.raise_signal(signal.SIGINT)

    history = net.train(X, T, optimizer=fastmlp.SGD(0.1), epochs=1000, callbacks=[interrupt])
    assert history.stopped == "interrupted" and history.n_epochs == 2
    twin = network([4, 7, 3])
    twin.train(X, T, optimizer=fastmlp.SGD(0.1), epochs=2)
    assert same_bits(net, twin)


def test_progress_changes_nothing():
    net, twin = network([4, 7, 3]), network([4, 7, 3])
    X, T = data(net, 53)
    net.train(X, T, optimizer=fastmlp.SGD(0.1), epochs=3, progress=True)
    twin.train(X, T, optimizer=fastmlp.SGD(0.1), epochs=3)
    assert same_bits(net, twin)


# stopping


@pytest.mark.parametrize("optimizer", ["GradientDescent", "SGD"])
def test_tol(optimizer):
    """Stops after the first epoch in which nothing changed by more than tol, the epoch the lecture stops at."""
    net, X, T = regression()
    run = reference.train(lecture(net), X, T, getattr(reference, optimizer)(0.3), 200)
    tol = 1e-6
    expected = next(epoch for epoch, change in enumerate(run.change, 1) if change <= tol)
    more = {"batch_size": 40} if optimizer == "SGD" else {}
    history = net.train(X, T, optimizer=getattr(fastmlp, optimizer)(0.3), epochs=200, tol=tol, shuffle=False, **more)
    assert history.stopped == "tol" and history.n_epochs == expected == len(history.objective)
    assert 1 < expected < 200


def test_tol_zero():
    """tol=0 stops when the weights stop changing altogether; without tol nothing stops early."""
    net = fastmlp.Network([2, 1], output="identity")
    net.weights, net.biases = [np.ones((2, 1))], [np.zeros(1)]
    X, T = np.ones((4, 2)), np.full(4, 2.0)
    assert net.train(X, T, optimizer=fastmlp.GradientDescent(0.1), epochs=5, tol=0).stopped == "tol"
    assert net.train(X, T, optimizer=fastmlp.GradientDescent(0.1), epochs=5).n_epochs == 5


@pytest.mark.parametrize("dtype", DTYPES)
def test_patience(dtype):
    """Training stops patience epochs after the best validation objective, whose weights stand."""
    net = network([10, 30, 1], activation="tanh", output="identity", dtype=dtype)
    X, T = data(net, 80)
    seen = []
    history = net.train(
        X[:20],
        T[:20],
        optimizer=fastmlp.Adam(0.01),
        batch_size=5,
        epochs=500,
        validation=(X[20:], T[20:]),
        patience=7,
        callbacks=[lambda net, _: seen.append(parameters(net))],
    )
    best = int(np.argmin(history.validation))
    assert history.stopped == "patience" and history.n_epochs == best + 1 + 7 == len(seen)
    assert all(np.array_equal(p, q) for p, q in zip(parameters(net), seen[best], strict=True))
    assert not np.array_equal(seen[best][0], seen[-1][0])


# L-BFGS


def test_lbfgs_minimises():
    """An epoch is an iteration; the objective never rises and ends far below gradient descent's."""
    net, slow = (network([4, 6, 3], dtype="float64") for _ in range(2))
    X, T = data(net, 53)
    history = net.train(X, T, optimizer=fastmlp.LBFGS(), epochs=30)
    assert history.n_epochs == len(history.objective) == 30 and history.stopped == "epochs"
    assert np.all(np.diff(history.objective) <= 0)
    slow.train(X, T, optimizer=fastmlp.GradientDescent(0.5), epochs=30)
    assert net.objective(X, T) < 0.95 * slow.objective(X, T)


@pytest.mark.parametrize("dtype", DTYPES)
def test_lbfgs_finds_the_minimum(dtype):
    """Of penalised softmax regression, which has one: where scipy's L-BFGS-B takes the reference's objective."""
    net = network([3, 4], output="softmax", loss="log_loss", dtype=dtype, l2=0.1)
    X, T = data(net, 30)
    weight = np.random.default_rng(0).random(30)
    twin = lecture(net)

    def unpack(flat):
        return twin._replace(weights=[flat[:12].reshape(3, 4)], biases=[flat[12:]])

    def function(flat):
        (dW,), (db,) = reference.gradients(unpack(flat), X, T, weight)
        return reference.objective(unpack(flat), X, T, weight), np.concatenate([dW.ravel(), db])

    start = np.concatenate([twin.weights[0].ravel(), twin.biases[0]])
    found = scipy.optimize.minimize(function, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9})
    history = net.train(X, T, optimizer=fastmlp.LBFGS(), epochs=500, sample_weight=weight)
    assert history.n_epochs < 500
    assert net.objective(X, T, sample_weight=weight) == pytest.approx(found.fun, rel=1e-6)
    assert_close(net.weights, unpack(found.x).weights, 1e-2)


@pytest.mark.parametrize("optimizer", [fastmlp.LBFGS(), fastmlp.GradientDescent(0.1)], ids=["lbfgs", "descent"])
def test_full_batch_takes_no_batch_size(optimizer):
    net, same = network([4, 3]), network([4, 3])
    with refused("batch_size", "8"):
        net.train(*data(net, 53), optimizer=optimizer, batch_size=8)
    assert same_bits(net, same)


def test_lbfgs_takes_no_dropout():
    net = network([4, 5, 3], dropout=0.5)
    with refused("dropout", "0.5"):
        net.train(*data(net, 53), optimizer=fastmlp.LBFGS())


# dropout


def test_zero_dropout_is_none():
    net, twin = network([4, 7, 3], dropout=0.0), network([4, 7, 3])
    X, T = data(net, 53)
    for each in (net, twin):
        each.train(X, T, optimizer=fastmlp.SGD(0.1), batch_size=8, epochs=2)
    assert same_bits(net, twin)


def test_dropout_only_hidden_only_training():
    """Prediction uses every unit, and without a hidden layer there is nothing to drop."""
    dropped, plain = network([4, 7, 3], dropout=0.5), network([4, 7, 3])
    X, T = data(plain, 53)
    assert np.array_equal(dropped.forward(X), plain.forward(X)) and dropped.objective(X, T) == plain.objective(X, T)
    dropped, plain = network([4, 3], dropout=0.5), network([4, 3])
    for each in (dropped, plain):
        each.train(X, T, optimizer=fastmlp.SGD(0.1), batch_size=8, epochs=2)
    assert same_bits(dropped, plain)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 20, 501])
def test_dropout_step(n, dtype):
    """Inverted dropout of one example: units kept have a = 1 / (1 - p) in eq. 7, 9 and 10; units dropped have none."""
    p, W_2 = 0.25, 0.5 / n
    net = fastmlp.Network([1, n, 1], activation="identity", output="identity", dtype=dtype, dropout=p, random_state=3)
    weights, biases = [np.ones((1, n)), np.full((n, 1), W_2)], [np.zeros(n), np.zeros(1)]
    contract = {"float32": 1e-5, "float64": 1e-12}[dtype]
    for _ in range(20):
        net.weights, net.biases = weights, biases
        net.train(np.ones((1, 1)), np.ones(1), optimizer=fastmlp.SGD(1.0), epochs=1)
        kept = net.weights[1][:, 0] != np.asarray(W_2, dtype)
        delta = kept.sum() * W_2 / (1 - p) - 1
        assert_close([net.weights[1][:, 0]], [W_2 - delta * kept / (1 - p)], contract)
        assert_close([net.weights[0][0]], [1 - delta * W_2 * kept / (1 - p)], contract)
        assert_close([net.biases[0], net.biases[1]], [-delta * W_2 * kept / (1 - p), np.array([-delta])], contract)
    if n > 500:
        assert kept.mean() == pytest.approx(1 - p, abs=0.1)


def test_dropout_scale():
    """h = mean_j mask_j / (1 - p): its square averages 1 + p / (1 - p) / n over examples with independent masks."""
    for n, p in ((1, 0.3), (1, 0.5), (100, 0.5)):
        net = fastmlp.Network([1, n, 1], activation="identity", output="identity", dropout=p, random_state=0)
        net.weights, net.biases = [np.ones((1, n)), np.full((n, 1), 1 / n)], [np.zeros(n), np.zeros(1)]
        X = np.ones((20000, 1))
        history = net.train(X, np.zeros(20000), optimizer=fastmlp.SGD(1e-30), batch_size=100, epochs=2)
        assert history.objective == pytest.approx([0.5 * (1 + p / (1 - p) / n)] * 2, rel=0.03)
        if n == 1:
            assert history.objective[0] != history.objective[1]


def test_dropout_trains():
    net = network([4, 40, 3], dropout=0.2)
    X, T = data(net, 200)
    before = net.objective(X, T)
    net.train(X, T, optimizer=fastmlp.Adam(0.01), batch_size=20, epochs=30)
    assert net.objective(X, T) < before


# divergence and refusals


@pytest.mark.parametrize(("dtype", "rate"), [("float32", 1e30), ("float64", 1e250)])
@pytest.mark.parametrize("optimizer", [fastmlp.SGD, fastmlp.GradientDescent, fastmlp.Adam])
def test_divergence(optimizer, dtype, rate):
    """Contract 3: said, and the weights left are finite and can be trained on."""
    net = network([4, 7, 3], activation="relu", output="identity", dtype=dtype)
    X, T = data(net, 53)
    with pytest.raises(fastmlp.DivergenceError) as caught:
        net.train(X, T, optimizer=optimizer(rate), epochs=20)
    assert isinstance(caught.value, ArithmeticError) and str(caught.value)
    assert all(np.isfinite(p).all() for p in parameters(net))
    net.weights, net.biases = [W * 0 for W in net.weights], [b * 0 for b in net.biases]
    net.train(X, T, optimizer=fastmlp.SGD(0.1), epochs=1)


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ({"batch_size": 0}, ("batch_size", "0")),
        ({"batch_size": -1}, ("batch_size", "-1")),
        ({"batch_size": 2.5}, ("batch_size", "2.5")),
        ({"epochs": -1}, ("epochs", "-1")),
        ({"epochs": 1.5}, ("epochs", "1.5")),
        ({"tol": -1.0}, ("tol", "-1")),
        ({"tol": math.nan}, ("tol", "nan")),
        ({"tol": True}, ("tol", "True")),
        ({"shuffle": "no"}, ("shuffle", "no")),
        ({"patience": 0, "validation": (np.ones((2, 4)), np.ones((2, 3)))}, ("patience", "0")),
        ({"sample_weight": np.ones(52)}, ("sample_weight", "52", "53")),
        ({"sample_weight": np.ones((53, 1))}, ("sample_weight", "(53, 1)")),
        ({"sample_weight": np.full(53, -1.0)}, ("sample_weight", "-1")),
        ({"sample_weight": np.full(53, np.nan)}, ("sample_weight", "nan")),
        ({"sample_weight": np.zeros(53)}, ("sample_weight", "0")),
        ({"validation": (np.ones((2, 5)), np.ones((2, 3)))}, ("validation", "5", "4")),
        ({"validation": (np.ones((2, 4)), np.ones((3, 3)))}, ("validation",)),
        ({"validation": (np.full((2, 4), np.nan), np.ones((2, 3)))}, ("validation", "nan")),
        ({"validation": (np.ones((2, 4)), np.full((2, 3), np.inf))}, ("validation", "inf")),
        ({"optimizer": "sgd"}, ("optimizer", "sgd")),
    ],
)
def test_bad_argument(arguments, fragments):
    """A ValueError that names the argument and the value, before anything is changed: optimizer state neither."""
    net, twin = (network([4, 7, 3]) for _ in range(2))
    X, T = data(net, 53)
    usual = {"optimizer": fastmlp.Adam(0.01), "epochs": 2}
    for each in (net, twin):
        each.train(X, T, **usual)
    with refused(*fragments):
        net.train(X, T, **{**usual, **arguments})
    for each in (net, twin):
        each.train(X, T, **usual)
    assert same_bits(net, twin)


def test_optimizer_has_no_default():
    net = network([4, 3])
    with pytest.raises(TypeError):
        net.train(*data(net, 5))


LOOKS = [(40, 8, 8), (300, 60, 64), (600, 512, 256), (300, 300, None)]


@pytest.mark.parametrize(("m", "m_validation", "batch_size"), LOOKS)
def test_looking_changes_nothing(m, m_validation, batch_size):
    """Validation, and every look at the network in a callback, leave the training as it is, to the bit."""
    plain, watched = network([4, 7, 3]), network([4, 7, 3])
    X, T = data(plain, m)
    V, U = data(plain, m_validation)
    optimizer = fastmlp.GradientDescent(0.5) if batch_size is None else fastmlp.SGD(0.5, momentum=0.5)
    weight = np.linspace(0.5, 2, m)

    def look(net, history):
        net.objective(V, U), net.gradients(V, U), net.deltas(V, U), net.layers(V), net.forward(V), net.forward(V[:1])

    settings = {"optimizer": optimizer, "batch_size": batch_size, "epochs": 4, "sample_weight": weight}
    plain.train(X, T, **settings)
    history = watched.train(X, T, validation=(V, U), callbacks=[look], **settings)
    assert same_bits(plain, watched)
    assert history.validation[-1] == watched.objective(V, U)


def test_train_inside_a_callback():
    net = network([4, 7, 3])
    X, T = data(net, 20)
    inner = {"optimizer": fastmlp.SGD(0.1), "epochs": 1}
    with pytest.raises(RuntimeError, match="callback"):
        net.train(X, T, optimizer=fastmlp.Adam(), callbacks=[lambda n, h: n.train(X, T, **inner)])
    assert net.train(X, T, **inner).n_epochs == 1


def test_weights_assigned_in_a_callback():
    """Fresh optimizer state from there on, as between calls."""
    one, two = network([4, 7, 3]), network([4, 7, 3])
    X, T = data(one, 20)
    settings = {"optimizer": fastmlp.Adam(0.01), "batch_size": 8, "shuffle": False}

    def assign(net, history):
        if history.n_epochs == 2:
            net.weights = [2 * w for w in net.weights]

    one.train(X, T, epochs=5, callbacks=[assign], **settings)
    two.train(X, T, epochs=2, **settings)
    two.weights = [2 * w for w in two.weights]
    two.train(X, T, epochs=3, **settings)
    assert same_bits(one, two)


def test_refused_data_keep_the_optimizer_state():
    one, two = network([4, 7, 3]), network([4, 7, 3])
    X, T = data(one, 20)
    bad = X.copy()
    bad[3, 2] = np.nan
    adam = fastmlp.Adam(0.01)
    one.train(X, T, optimizer=adam, epochs=2)
    two.train(X, T, optimizer=adam, epochs=2)
    for optimizer in (fastmlp.SGD(0.1, momentum=0.5), fastmlp.LBFGS(), adam):
        with pytest.raises(ValueError, match="nan"):
            two.train(bad, T, optimizer=optimizer, epochs=1)
    one.train(X, T, optimizer=adam, epochs=2)
    two.train(X, T, optimizer=adam, epochs=2)
    assert same_bits(one, two)


def test_refused_rows_leave_no_trace():
    """A row that is not finite is not met again in the rows that fill up a later chunk."""
    net = network([4, 7, 3])
    X, T = data(net, 8)
    bad = X.copy()
    bad[7, 0] = np.nan
    expected = network([4, 7, 3]).objective(X[:7], T[:7])
    with pytest.raises(ValueError):
        net.objective(bad, T)
    assert net.objective(X[:7], T[:7]) == expected


def test_lbfgs_says_divergence():
    net = network([4, 7, 3], output="identity")
    X, T = data(net, 20)
    before = net.weights
    with pytest.raises(fastmlp.DivergenceError):
        net.train(X, T * 1e30 + 1e30, optimizer=fastmlp.LBFGS(), epochs=3)
    assert all(np.array_equal(a, b) for a, b in zip(before, net.weights))


@pytest.mark.parametrize("scale", [1e-50, 1e39, 3.0])
def test_sample_weight_scale(scale):
    """Means do not depend on the unit of the weights."""
    net = network([4, 7, 3])
    X, T = data(net, 20)
    weight = np.linspace(0.5, 2, 20)
    assert net.objective(X, T, scale * weight) == pytest.approx(net.objective(X, T, weight), rel=1e-6)
    net.train(X, T, optimizer=fastmlp.SGD(0.1), sample_weight=scale * weight, epochs=1)


def test_numpy_true_stops():
    net = network([4, 7, 3])
    X, T = data(net, 20)
    history = net.train(X, T, optimizer=fastmlp.SGD(0.1), callbacks=[lambda n, h: np.bool_(True)])
    assert history.stopped == "callback" and history.n_epochs == 1


def test_one_row_after_an_overflow():
    """What an output that is not finite leaves behind does not reach the next row."""
    net = fastmlp.Network([3, 4, 40], "identity", "identity", random_state=0)
    good = [w.copy() for w in net.weights]
    x = np.ones((1, 3), np.float32)
    expected = net.forward(x)
    net.weights = [w * 1e30 for w in good]
    assert not np.isfinite(net.forward(x)).all() and not np.isfinite(net.forward(x)).all()
    net.weights = good
    assert np.array_equal(net.forward(x), expected)
