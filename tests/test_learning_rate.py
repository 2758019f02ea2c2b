"""find_learning_rate: the range test leaves the model alone, and what it suggests trains."""

import dataclasses

import numpy as np
import pytest
from cases import data, digest, network, refused
from sklearn.base import clone

import fastmlp
from fastmlp.learning_rate import find_learning_rate

pytestmark = pytest.mark.filterwarnings("ignore:.*[Mm]aximum iterations")


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32), y


def classifier(activation="relu", init="he", **settings):
    settings = {"output": "softmax", "loss": "log_loss", "random_state": 0, **settings}
    return fastmlp.Network([64, 30, 10], activation=activation, init=init, **settings)


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic"])
@pytest.mark.parametrize(
    "optimizer",
    [fastmlp.SGD(1.0), fastmlp.SGD(1.0, 0.9, True), fastmlp.Adam(), fastmlp.GradientDescent(1.0)],
    ids=lambda o: type(o).__name__,
)
def test_suggestion_trains(digits, activation, optimizer):
    """Far better than a hundredth of it."""
    X, y = digits
    full = isinstance(optimizer, fastmlp.GradientDescent)
    settings = {"batch_size": None if full else 32}

    def start():
        return classifier(activation, "he" if activation == "relu" else "glorot")

    found = find_learning_rate(start(), X, y, optimizer=optimizer, highest=30.0, **settings)

    def trained(times):
        net = start()
        rate = dataclasses.replace(optimizer, learning_rate=times * found.suggestion)
        net.train(X, y, optimizer=rate, epochs=40 if full else 5, **settings)
        return net.objective(X, y)

    assert trained(1) < 1.4 and trained(1) < 0.7 * trained(0.01)


def test_curves(digits):
    """The rates, the losses of each minibatch before its update, and their smoothing, by hand."""
    X, y = digits
    settings = {"batch_size": 600, "highest": 1000.0, "steps": 50, "random_state": 3}
    found = find_learning_rate(classifier(), X, y, optimizer=fastmlp.SGD(1.0), **settings)
    n = len(found.losses)
    assert 30 < n < 50 and len(found.learning_rates) == len(found.smoothed) == n
    np.testing.assert_allclose(found.learning_rates, np.geomspace(1e-6, 1000, 50)[:n], rtol=1e-12)
    assert found.diverged_at == found.learning_rates[-1]
    net, rng, losses = classifier(), np.random.default_rng(3), []
    order = rng.permutation(1797)
    for k, rate in enumerate(found.learning_rates):
        if k % 2 == 0 and k > 0:  # two minibatches of 600 an order
            order = rng.permutation(1797)
        rows = order[k % 2 * 600 :][:600]
        losses.append(net.objective(X[rows], y[rows]))
        dW, db = net.gradients(X[rows], y[rows])
        net.weights = [W - rate * g for W, g in zip(net.weights, dW)]
        net.biases = [b - rate * g for b, g in zip(net.biases, db)]
    settled = found.learning_rates < 1  # beyond, rounding grows from step to step
    np.testing.assert_allclose(found.losses[settled], np.array(losses)[settled], rtol=1e-4)
    for k in range(n):
        weights = 0.9 ** np.arange(k, -1, -1)
        assert found.smoothed[k] == pytest.approx(np.average(found.losses[: k + 1], weights=weights))
    assert found.smoothed[-1] > 4 * found.smoothed.min() and found.smoothed[-2] <= 4 * found.smoothed[:-1].min()
    assert found.suggestion == pytest.approx(found.learning_rates[found.smoothed.argmin()] / 10)


@pytest.mark.parametrize("optimizer", [fastmlp.SGD(1.0, 0.9), fastmlp.Adam()], ids=["momentum", "Adam"])
def test_state_of_the_optimizer_goes_on(optimizer):
    """All examples in each minibatch: the same losses as of one training with the growing rate as its schedule."""
    net = network([4, 6, 2], activation="tanh", output="identity")
    X, T = data(net, 50)
    found = find_learning_rate(net, X, T, optimizer=optimizer, steps=30, highest=0.1)
    schedule = dataclasses.replace(optimizer, learning_rate=lambda epoch: found.learning_rates[epoch])
    history = net.train(X, T, optimizer=schedule, epochs=30, batch_size=50, shuffle=False)
    np.testing.assert_allclose(found.losses, history.objective, rtol=1e-6)


def test_model_is_not_changed(digits):
    X, y = digits
    net = classifier(dropout=0.2)
    net.train(X, y, optimizer=fastmlp.Adam(3e-3), epochs=1)
    before = digest(net), net._rng.bit_generator.state, net._optimizer, net._updates
    first, second = (find_learning_rate(net, X, y, steps=30) for _ in range(2))
    assert (digest(net), net._rng.bit_generator.state, net._optimizer, net._updates) == before
    np.testing.assert_array_equal(first.losses, second.losses)
    own = find_learning_rate(net, X, y, optimizer=fastmlp.Adam(3e-3), steps=30)
    np.testing.assert_array_equal(first.losses, own.losses)  # that of the last training, by default


def test_by_default_it_is_adam():
    net = network([4, 6, 2])
    X, T = data(net, 50)
    default, adam, sgd = (find_learning_rate(net, X, T, **o) for o in ({}, *({"optimizer": o} for o in OPTIMIZERS)))
    np.testing.assert_array_equal(default.losses, adam.losses)
    assert not np.array_equal(default.losses, sgd.losses)


OPTIMIZERS = fastmlp.Adam(), fastmlp.SGD(0.1)


def test_divergence_is_an_end():
    net = network([4, 6, 2], activation="relu", output="identity")
    X, T = data(net, 50)
    found = find_learning_rate(net, X, T, optimizer=fastmlp.SGD(1.0), lowest=1e-3, highest=1e30, steps=20)
    assert found.diverged_at is not None and len(found.losses) < 20 and np.isfinite(found.losses).all()


def test_ctrl_c_is_not_swallowed(monkeypatch):
    """Training ends quietly at Ctrl-C; a test or a diagnosis made of trainings must not go on."""
    net = network([4, 6, 2])
    X, T = data(net, 50)
    monkeypatch.setattr(fastmlp.Network, "train", lambda *_, **__: fastmlp.History(stopped="interrupted"))
    with pytest.raises(KeyboardInterrupt):
        find_learning_rate(net, X, T)
    with pytest.raises(KeyboardInterrupt):
        fastmlp.diagnose(net, X, T, optimizer=fastmlp.Adam())


def test_negative_losses():
    """As of Poisson's regression without its part of y alone: four times the best is no end there."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 2))
    model = fastmlp.MLPRegressor("poisson", (20,), random_state=0)
    found = find_learning_rate(model, X, 20 * np.exp(0.3 * X[:, 0]))
    assert found.smoothed.min() < 0 and len(found.losses) > 60
    assert found.suggestion == found.learning_rates[found.smoothed.argmin()] / 10


def test_a_loss_that_falls_to_the_end():
    """The lowest loss at the highest rate is where the test ended, not where training is about to diverge."""
    X = np.random.default_rng(0).random((200, 3))
    net = fastmlp.Network([3, 1], output="identity", dtype="float64", random_state=0)
    found = fastmlp.find_learning_rate(net, X, X[:, 0] + 5.0, optimizer=fastmlp.SGD(0.1), highest=1e-2)
    assert found.suggestion == pytest.approx(1e-3) and "a higher one may do better" in repr(found)
    further = fastmlp.find_learning_rate(net, X, X[:, 0] + 5.0, optimizer=fastmlp.SGD(0.1), highest=10.0)
    assert 1e-2 < further.suggestion < 1 and "a higher one" not in repr(further)


def test_nothing_learned():
    """Where all rates are too low only chance lowers the loss, and nothing is suggested."""
    net = network([4, 6, 2])
    X, T = data(net, 500)
    found = find_learning_rate(net, X, T, optimizer=fastmlp.SGD(1.0), batch_size=20, lowest=1e-12, highest=1e-9)
    assert found.suggestion is None and found.diverged_at is None
    assert repr(found).startswith("No learning rate") and "100 rates from 1e-12 to 1e-09" in repr(found)


def test_repr(digits):
    found = find_learning_rate(classifier(), *digits, batch_size=32)
    rate = found.learning_rates[found.smoothed.argmin()]
    assert repr(found).startswith(f"A learning rate of {rate / 10:.2g} is suggested: the loss is lowest, ")
    assert f"at {rate:.2g}, and diverged at {found.diverged_at:.2g} ({len(found.losses)} rates" in repr(found)


def test_sparse(digits):
    sparse = pytest.importorskip("scipy.sparse")
    X, y = digits
    dense, csr = (find_learning_rate(classifier(), part, y, steps=30) for part in (X, sparse.csr_array(X)))
    np.testing.assert_allclose(csr.losses[:20], dense.losses[:20], rtol=1e-4)


# ---- estimators ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["sgd", "adam", "adamw", "gd"])
def test_classifier(digits, solver):
    X, y = digits
    model = fastmlp.MLPClassifier((30,), solver=solver, random_state=1, max_iter=8, batch_size=64)
    found = find_learning_rate(model, X, y)
    assert not hasattr(model, "coefs_")
    scores = []
    for times in (0.01, 1):
        model.max_iter = 60 if solver == "gd" else 8
        scores.append(clone(model).set_params(learning_rate_init=times * found.suggestion).fit(X, y).score(X, y))
    assert scores[1] > scores[0] + 0.2
    np.testing.assert_array_equal(find_learning_rate(model.fit(X, y), X, y).losses, found.losses)


def test_start_of_an_estimator(digits):
    """The network is the one that fit starts from; a warm start's is the one it has."""
    X, y = digits
    model = fastmlp.MLPClassifier((30,), solver="gd", random_state=1, max_iter=2, alpha=0, learning_rate_init=0.1)
    fitted = clone(model).fit(X, y)
    found = find_learning_rate(model, X, y, steps=20)
    assert found.losses[0] == pytest.approx(fitted.loss_curve_[0], rel=1e-6)
    fitted.warm_start = True
    h = fitted.predict_proba(X)
    expected = -np.log(h[np.arange(len(y)), y]).mean()
    assert find_learning_rate(fitted, X, y, steps=20).losses[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", ["squared_error", "huber", "absolute_error", "poisson"])
def test_regressor(loss):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 3))
    y = np.exp(np.sin(X[:, 0]) + 0.5 * X[:, 1])
    model = fastmlp.MLPRegressor(loss, (30,), max_iter=30, random_state=0)
    found = find_learning_rate(model, X, y)
    best, slow = (
        clone(model).set_params(learning_rate_init=times * found.suggestion).fit(X, y).score(X, y)
        for times in (1, 0.01)
    )
    assert best > 0.85 and best > slow + 0.1


def test_random_state_of_an_estimator(digits):
    """With random_state=None NumPy's own generator is left alone, and the argument draws the start."""
    X, y = digits
    before = np.random.get_state()[1].copy()
    model = fastmlp.MLPClassifier((5,))
    first, same, other = (find_learning_rate(model, X, y, random_state=seed, steps=20).losses[0] for seed in (0, 0, 1))
    assert first == same != other
    assert np.array_equal(np.random.get_state()[1], before)


# ---- the plot, and what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize("highest", [10.0, 1e-9])
def test_plot(highest):
    """The curves are the result's, with a suggestion or without."""
    matplotlib = pytest.importorskip("matplotlib.figure")
    net = network([4, 6, 2])
    found = find_learning_rate(net, *data(net, 500), batch_size=20, lowest=1e-12, highest=highest)
    ax = matplotlib.Figure().subplots()
    display = found.plot(ax=ax)
    assert display.ax_ is ax and (found.suggestion is None) == (highest < 1)
    np.testing.assert_array_equal(display.lines_[1].get_xdata(), found.learning_rates)
    np.testing.assert_array_equal(display.lines_[1].get_ydata(), found.smoothed)


@pytest.mark.parametrize(
    ("wrong", "fragments"),
    [
        ({"lowest": 0}, ("lowest is 0", "a finite number > 0")),
        ({"highest": np.inf}, ("highest is inf", "a finite number > 0")),
        ({"lowest": 1, "highest": 1}, ("lowest is 1 and highest is 1", "lowest < highest")),
        ({"steps": 19}, ("steps is 19", "an integer >= 20")),
        ({"steps": 30.0}, ("steps is 30.0", "an integer >= 20")),
        ({"optimizer": fastmlp.LBFGS()}, ("optimizer is LBFGS", "GradientDescent, SGD or Adam")),
        ({"optimizer": fastmlp.GradientDescent(1), "batch_size": 3}, ("batch_size is 3", "None is allowed")),
        ({"batch_size": 0}, ("batch_size is 0", "integer >= 1")),
        ({"random_state": -1}, ("random_state is -1",)),
        ({"X": np.full((20, 2), np.nan)}, ("X holds nan at row 0",)),
        ({"T": np.ones((20, 3))}, ("T has shape (20, 3)",)),
    ],
)
def test_what_is_refused(wrong, fragments):
    net = network([2, 3, 1])
    X, T = data(net, 20)
    arguments = {"X": X, "T": T, **wrong}
    with refused(*fragments):
        find_learning_rate(net, arguments.pop("X"), arguments.pop("T"), **arguments)


def test_which_models_are_refused(digits):
    X, y = digits
    with pytest.raises(TypeError, match="model is str"):
        find_learning_rate("net", X, y)
    with refused("solver is 'lbfgs'", "no learning rate"):
        find_learning_rate(fastmlp.MLPClassifier(solver="lbfgs"), X, y)
    with refused("optimizer is Adam", "None is allowed"):
        find_learning_rate(fastmlp.MLPClassifier(), X, y, optimizer=fastmlp.Adam())
    with refused("The 'momentum' parameter"):
        find_learning_rate(fastmlp.MLPClassifier(momentum=2), X, y)
