"""diagnose: each disease is planted, and found."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from cases import data, digest, network, refused, run_python
from scipy.special import xlogy
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastmlp
from fastmlp import diagnostics

pytestmark = pytest.mark.filterwarnings("ignore:.*[Mm]aximum iterations", "ignore:lbfgs failed")



@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32), y


def classifier(hidden=(30,), activation="relu", init="he", **settings):
    settings = {"output": "softmax", "loss": "log_loss", "random_state": 0, **settings}
    return fastmlp.Network([64, *hidden, 10], activation=activation, init=init, **settings)


def subjects(diagnosis):
    return [finding.subject for finding in diagnosis.findings]


def finding(diagnosis, subject):
    """The one about the subject; its message has its number."""
    (found,) = [f for f in diagnosis.findings if f.subject == subject]
    assert found.message and found.advice
    return found


@pytest.mark.parametrize(
    ("activation", "init", "optimizer"),
    [
        ("relu", "he", fastmlp.Adam()),
        ("tanh", "glorot", fastmlp.SGD(0.1)),
        ("logistic", "glorot", fastmlp.SGD(0.1, momentum=0.9, nesterov=True)),
        ("softplus", "glorot", fastmlp.Adam(lambda epoch: 1e-2 * 0.9**epoch)),
    ],
)
def test_healthy(digits, activation, init, optimizer):
    """Nothing is found on a network that learns well, before the training, after it, and without its history."""
    X, y = digits
    net = classifier((30, 20), activation, init)
    assert subjects(fastmlp.diagnose(net, X[:1200], y[:1200], optimizer=optimizer, batch_size=32)) == []
    validation = X[1200:], y[1200:]
    history = net.train(X[:1200], y[:1200], optimizer=optimizer, batch_size=32, epochs=20, validation=validation)
    assert history.objective[-1] < 0.3
    state, generator = digest(net), net._rng.bit_generator.state
    found = fastmlp.diagnose(net, X[:1200], y[:1200], history=history, batch_size=32, validation=validation)
    assert subjects(found) == [] and str(found).endswith("Nothing found wrong.")
    assert subjects(fastmlp.diagnose(net, X[:1200], y[:1200], batch_size=32)) == []
    assert digest(net) == state and net._rng.bit_generator.state == generator
    assert found.loss == pytest.approx(net.objective(X[:1200], y[:1200]), rel=1e-6)
    share = np.bincount(y[:1200]) / 1200
    assert found.baseline == pytest.approx(-np.sum(share * np.log(share)), rel=1e-12)


@pytest.mark.parametrize(
    ("optimizer", "ratio"),
    [
        (None, lambda g, w: math.nan),
        (fastmlp.LBFGS(), lambda g, w: math.nan),
        (fastmlp.GradientDescent(0.2), lambda g, w: 0.2 * g / w),
        (fastmlp.SGD(0.1, momentum=0.9), lambda g, w: 0.1 * g / 0.1 / w),
        (fastmlp.Adam(1e-3), lambda g, w: 1e-3 / w),
    ],
)
def test_layers(optimizer, ratio):
    """Every column by NumPy."""

    def rms(a):
        return np.sqrt(np.mean(np.square(a, dtype=np.float64)))

    net = network([5, 7, 4, 3], activation="relu", l2=0.1, dtype="float64")
    net.biases = [b - 5 * (np.arange(len(b)) == 1) for b in net.biases]
    X, T = data(net, 40)
    found = fastmlp.diagnose(net, X, T, optimizer=optimizer)
    passed, deltas, (dW, _) = net.layers(X), net.deltas(X, T), net.gradients(X, T)
    assert found.layers.shape == (3,) and found.layers["layer"].tolist() == [2, 3, 4] and found.examples == 40
    assert found.layers["units"].tolist() == [7, 4, 3]
    for row, (_, a), delta, g, w in zip(found.layers, passed, deltas, dW, net.weights):
        dead = np.mean(~a.any(axis=0)) if row["layer"] < 4 else 0.0
        expected = [np.mean(a), np.std(a), dead, 0.0, rms(delta), rms(g), rms(w), ratio(rms(g), rms(w))]
        np.testing.assert_allclose(row.item()[2:], expected, rtol=1e-12)
    assert found.layers["dead"][0] >= 1 / 7
    assert found.loss == pytest.approx(net.objective(X, T) - 0.05 * sum((w**2).sum() for w in net.weights))
    assert found.baseline == pytest.approx(0.5 * T.var(axis=0).sum(), rel=1e-5)


def test_frame_and_report():
    pandas = pytest.importorskip("pandas")
    net = classifier((8, 4))
    X, y = np.full((20, 64), 100.0) * np.arange(20)[:, None], np.arange(20) % 10
    found = fastmlp.diagnose(net, X, y)
    assert list(pandas.DataFrame(found.layers)["units"]) == [8, 4, 10]
    lines = repr(found).splitlines()
    assert lines[0] == repr(net) and lines[1].startswith("on 20 examples the loss is ")
    assert lines[3].split()[:2] == ["layer", "units"] and [line.split()[0] for line in lines[4:7]] == ["2", "3", "4"]
    assert lines[8].startswith("1. unscaled inputs: 64 of 64 inputs") and " -> " in str(found)


def test_unscaled_inputs(digits):
    X, y = digits
    found = finding(fastmlp.diagnose(classifier(), 255 * X, y), "unscaled inputs")
    size = 255 * np.maximum(X.mean(axis=0, dtype=np.float64), X.std(axis=0, dtype=np.float64))
    assert found.value == pytest.approx(size.max(), rel=1e-6)
    assert f"{np.sum(size > 3)} of 64 inputs" in found.message and f"{found.value:.3g}" in found.message
    assert finding(fastmlp.diagnose(classifier(), X / 100, y), "unscaled inputs").value == pytest.approx(
        (X / 100).std(axis=0).max(), rel=1e-5
    )


def test_sparse_inputs(digits):
    sparse = pytest.importorskip("scipy.sparse")
    X, y = digits
    for scale in (1, 255):
        dense, csr = (fastmlp.diagnose(classifier(), scale * part, y) for part in (X, sparse.csr_array(X)))
        assert subjects(dense) == subjects(csr)
        assert all(a.value == pytest.approx(b.value, rel=1e-6) for a, b in zip(dense.findings, csr.findings))


def test_constant_and_one_sided_inputs(digits):
    X, y = digits
    X = np.where(np.arange(64) == 5, 0.5, X)
    found = finding(fastmlp.diagnose(classifier(), X, y), "constant inputs")
    assert found.value == 1 and "column 5, which is 0.5" in found.message
    X = 0.8 + 0.2 * X.astype(np.float64)
    found = finding(fastmlp.diagnose(classifier(activation="logistic", init="glorot"), X, y), "one-sided inputs")
    X = X[:, np.ptp(X, axis=0) > 0]
    assert found.value == pytest.approx(np.median(X.mean(axis=0) / X.std(axis=0)))
    X = 0.8 + 0.2 * digits[0]
    assert "one-sided inputs" not in subjects(fastmlp.diagnose(classifier(), X, y))


def test_targets():
    rng = np.random.default_rng(0)
    X, T = rng.standard_normal((50, 3)), rng.uniform(0, 4, (50, 2))
    for output, outside in (("logistic", T > 1), ("tanh", T > 1), ("relu", T < 0), ("identity", T < 0)):
        found = fastmlp.diagnose(fastmlp.Network([3, 4, 2], output=output, random_state=0), X, T)
        assert ("targets out of range" in subjects(found)) == outside.any()
        if outside.any():
            assert finding(found, "targets out of range").value == outside.mean()
    found = fastmlp.diagnose(fastmlp.Network([3, 4, 2], output="softplus", random_state=0), X, -T)
    assert finding(found, "targets out of range").value == 1
    T = 100 + 20 * T
    found = fastmlp.diagnose(fastmlp.Network([3, 4, 2], output="identity", random_state=0), X, T)
    assert finding(found, "unscaled targets").value == pytest.approx(T.mean(axis=0).max())


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_equal_units(digits, value):
    net = classifier((12, 6))
    net.weights = [np.full(W.shape, value) for W in net.weights]
    found = fastmlp.diagnose(net, *digits)
    equal = [f for f in found.findings if f.subject == "equal units"]
    assert [(f.layer, f.value) for f in equal] == [(2, 12), (3, 6)] and "vanishing delta" not in subjects(found)


def test_dead_units(digits):
    net = classifier((10,))
    net.biases = [np.where(np.arange(10) < 4, -50.0, 0.0), np.zeros(10)]
    found = fastmlp.diagnose(net, *digits)
    assert finding(found, "dead units").value == 0.4 == found.layers["dead"][0]
    assert "4 of 10 units (40%)" in finding(found, "dead units").message and finding(found, "dead units").layer == 2


@pytest.mark.parametrize("activation", ["logistic", "tanh"])
def test_saturated_units(digits, activation):
    net = classifier((10,), activation, "glorot")
    net.biases = [np.where(np.arange(10) < 3, 30.0, 0.0), np.zeros(10)]
    found = fastmlp.diagnose(net, *digits)
    assert finding(found, "saturated units").value == pytest.approx(0.3) == found.layers["saturated"][0]


def test_saturated_and_wrong_outputs():
    net = fastmlp.Network([2, 1], output="logistic", random_state=0)
    net.biases = [[20.0]]
    T = np.arange(20) % 2
    found = finding(fastmlp.diagnose(net, np.eye(2)[T], T), "saturated units")
    assert found.value == 0.5 and found.layer == 2


def test_vanishing_and_exploding_delta(digits):
    X, y = digits
    net = classifier((20,) * 6, "logistic", "glorot")
    found = finding(fastmlp.diagnose(net, X[:500], y[:500]), "vanishing delta")
    deltas = [np.sqrt(np.mean(d.astype(float) ** 2)) for d in net.deltas(X[:500], y[:500])]
    assert found.value == pytest.approx(deltas[0] / deltas[-1], rel=1e-6) and found.value < 1e-3
    assert f"{found.value ** (1 / 6):.3g} a layer" in found.message
    net = classifier((20,) * 6)
    net.weights = [5 * W for W in net.weights]
    found = finding(fastmlp.diagnose(net, X, y), "exploding delta")
    assert found.value > 1000 and f"{found.value:.3g}" in found.message


def test_updates(digits):
    net = classifier()
    found = fastmlp.diagnose(net, *digits, optimizer=fastmlp.Adam(0.1))
    large = [f for f in found.findings if f.subject == "large updates"]
    assert [f.layer for f in large] == [2, 3]
    assert [f.value for f in large] == [pytest.approx(0.1 / W.std(), rel=0.01) for W in net.weights]
    found = fastmlp.diagnose(net, *digits, optimizer=fastmlp.SGD(1e-6))
    assert finding(found, "small updates").value == found.layers["update_ratio"].max() < 1e-6


def test_learning_rate_too_high(digits):
    """By the curve; by trial, of a network that is trained and of one that is not."""
    X, y = digits
    net, too_high = classifier(activation="tanh", init="glorot"), fastmlp.SGD(20.0)
    history = net.train(X, y, optimizer=too_high, batch_size=32, epochs=10)
    found = finding(fastmlp.diagnose(net, X, y, history=history, batch_size=32), "learning rate too high")
    assert found.value == pytest.approx(np.maximum(np.diff(history.objective)[-5:], 0).mean())
    found = finding(fastmlp.diagnose(net, X, y, batch_size=32), "learning rate too high")
    assert found.value > 2 and f"{found.value:.3g}" in found.message
    net = classifier()
    assert finding(fastmlp.diagnose(net, X, y, optimizer=fastmlp.SGD(20.0)), "learning rate too high").value > 2
    net = fastmlp.Network([64, 30, 1], activation="relu", output="identity", init="he", random_state=0)
    found = fastmlp.diagnose(net, X, y / 9, optimizer=fastmlp.GradientDescent(1e3))
    assert finding(found, "learning rate too high").value == math.inf
    assert "diverges" in finding(found, "learning rate too high").message


@pytest.mark.parametrize("rate", [1e-6, 1e-4])
def test_learning_rate_too_low(digits, rate):
    X, y = digits
    net = classifier()
    history = net.train(X, y, optimizer=fastmlp.SGD(rate), batch_size=32, epochs=12)
    for known in ({}, {"history": history}):
        found = fastmlp.diagnose(net, X, y, batch_size=32, **known)
        assert finding(found, "learning rate too low").value == rate
        under = finding(found, "underfitting")
        assert under.value == found.loss / found.baseline > 0.9


def test_stopped_early(digits):
    X, y = digits
    net = classifier(activation="logistic", init="glorot")
    history = net.train(X, y, optimizer=fastmlp.SGD(0.05), batch_size=32, epochs=8)
    found = finding(fastmlp.diagnose(net, X, y, history=history, batch_size=32), "underfitting")
    assert found.value == pytest.approx(history.objective[5] - history.objective[7])


def test_overfitting(digits):
    X, y = digits[0], np.random.default_rng(0).integers(0, 10, len(digits[1]))
    net, held_out = classifier((100,)), (X[300:], y[300:])
    history = net.train(X[:300], y[:300], optimizer=fastmlp.Adam(1e-2), epochs=60, validation=held_out)
    found = finding(fastmlp.diagnose(net, X[:300], y[:300], history=history), "overfitting")
    assert found.value == pytest.approx(np.mean(history.validation[-3:]) - min(history.validation))
    found = fastmlp.diagnose(net, X[:300], y[:300], validation=held_out)
    expected = net.objective(*held_out) - net.objective(X[:300], y[:300])
    assert finding(found, "overfitting").value == pytest.approx(expected)


def test_one_class(digits):
    X, y = digits
    T = (y == 3).astype(int)
    net = fastmlp.Network([64, 1], output="logistic", loss="log_loss", random_state=0)
    net.train(X, T, optimizer=fastmlp.SGD(0.01), epochs=5)
    found = finding(fastmlp.diagnose(net, X, T), "one class only")
    assert found.value == pytest.approx(1 - T.mean()) and "class 0" in found.message


def test_idle_units():
    """f' that has no name."""
    leaky = SimpleNamespace(df=lambda z: 1.0 if z > 0 else 0.01)
    step = SimpleNamespace(df=lambda z: 1.0 if abs(z) < 1 else 0.0)
    z = np.array([[0.5, 2.0, 3.0], [-0.5, -2.0, 0.1]])
    assert [part.tolist() for part in diagnostics._idle(leaky, z, z)] == [[False] * 3, [False] * 3]
    assert [part.tolist() for part in diagnostics._idle(step, z, z)] == [[False, True, False], [False] * 3]


# ---- of estimators -------------------------------------------------------------------------------------------------


def test_classifier(digits):
    X, y = digits
    names = np.array(list("abcdefghij"))
    model = fastmlp.MLPClassifier((30,), batch_size=32, max_iter=40, random_state=0).fit(X, names[y])
    found = fastmlp.diagnose(model, X, names[y])
    assert subjects(found) == [] and repr(found).startswith("MLPClassifier, Network([64, 30, 10]")
    h = model.predict_proba(X)
    assert found.loss == pytest.approx(-np.log(h[np.arange(len(y)), y]).mean(), rel=1e-5)
    assert found.layers["update_ratio"][0] == pytest.approx(1e-3 / np.sqrt(np.mean(model.coefs_[0] ** 2)), rel=1e-5)
    model.set_params(learning_rate_init=0.5, solver="sgd").fit(255 * X, names[y])
    assert "unscaled inputs" in subjects(fastmlp.diagnose(model, 255 * X, names[y]))
    with refused("history is given", "None is allowed"):
        fastmlp.diagnose(model, X, names[y], history=fastmlp.History())


def test_two_classes_and_labels(digits):
    X, y = digits
    for T in (y == 3, np.stack([y % 2, y > 4], 1).astype(int)):
        model = fastmlp.MLPClassifier((30,), early_stopping=True, random_state=0, max_iter=500).fit(X, T)
        found = fastmlp.diagnose(model, X, T)
        assert subjects(found) == [] and found.loss < 0.4 * found.baseline


@pytest.mark.parametrize("loss", ["squared_error", "huber", "absolute_error", "poisson"])
def test_regressor(loss):
    """Its own losses, in full: the loss, that of the best constant, and the rest as of a Network."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 4))
    y = np.stack([X[:, 0] * X[:, 1], X[:, 2]], 1)
    y = np.exp(0.5 * y) if loss == "poisson" else y
    model = fastmlp.MLPRegressor(loss, (20,), learning_rate_init=0.01, random_state=0, max_iter=300).fit(X, y)
    found = fastmlp.diagnose(model, X, y)
    assert subjects(found) == [] and np.isfinite(found.layers["delta"]).all()

    def total(h):
        d = np.abs(h - y)
        each = {
            "squared_error": d**2 / 2,
            "huber": np.where(d < 1, d**2 / 2, d - 0.5),
            "absolute_error": d,
            "poisson": xlogy(y, y / np.maximum(h, 1e-300)) - y + h,
        }[loss]
        return each.sum(axis=1).mean()

    assert found.loss == pytest.approx(total(model.predict(X)), rel=1e-6)
    constants = total(y.mean(axis=0)), total(np.median(y, axis=0))
    assert found.baseline == pytest.approx(min(constants) if loss != "poisson" else constants[0], rel=1e-6)
    model.set_params(learning_rate_init=1e-5, max_iter=20).fit(X, y)
    assert finding(fastmlp.diagnose(model, X, y), "learning rate too low").value == 1e-5


def test_estimator_that_overfits():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((400, 5)), rng.standard_normal((400, 2))
    model = fastmlp.MLPRegressor(hidden_layer_sizes=(100,), learning_rate_init=0.01, random_state=0, max_iter=100)
    model.fit(X[:100], y[:100], eval_set=(X[100:], y[100:]))
    found = finding(fastmlp.diagnose(model, X[:100], y[:100]), "overfitting")
    assert found.value == pytest.approx(np.mean(model.validation_curve_[-3:]) - min(model.validation_curve_))
    model.set_params(solver="lbfgs").fit(X[:100], y[:100])
    found = fastmlp.diagnose(model, X[:100], y[:100], validation=(X[100:], y[100:]))
    assert finding(found, "overfitting").value > 0.2 and np.isnan(found.layers["update_ratio"]).all()


def test_an_estimator_in_a_pipeline_is_looked_at_with_what_it_sees(digits):
    """The same as alone on what the steps before make of X, and a transformer of y."""
    X, y = digits
    pipeline = make_pipeline(StandardScaler(), fastmlp.MLPClassifier((20,), max_iter=15, random_state=0))
    pipeline.fit(X * 100, y)
    alone = fastmlp.diagnose(pipeline[-1], pipeline[:-1].transform(X * 100), y)
    found = fastmlp.diagnose(pipeline, X * 100, y)
    assert np.array_equal(found.layers, alone.layers) and found.findings == alone.findings
    assert "unscaled inputs" not in subjects(found)
    target = X[:, 20] * 1e4
    inner = fastmlp.MLPRegressor(hidden_layer_sizes=(9,), max_iter=30, random_state=0)
    around = TransformedTargetRegressor(inner, transformer=StandardScaler()).fit(X, target)
    found = fastmlp.diagnose(around, X, target)
    assert found.baseline == pytest.approx(0.5, rel=1e-3) and "unscaled targets" not in subjects(found)


def test_diverged(digits):
    """What divergence leaves: weights and a loss that are huge, or no longer numbers; nothing else is said of these."""
    X, y = digits
    Z, net = (X - X.mean(axis=0)) / (X.std(axis=0) + 1e-3), classifier((32,))
    with pytest.raises(fastmlp.DivergenceError):
        net.train(Z, y, optimizer=fastmlp.SGD(10.0), epochs=10)
    found = fastmlp.diagnose(net, Z, y)
    assert subjects(found)[0] == "diverged" and found.findings[0].value > 1e6
    net = classifier((32,))
    net.weights = [W * 1e38 for W in net.weights]
    found = fastmlp.diagnose(net, X, y)
    assert subjects(found) == ["not finite"] and found.findings[0].layer == 2
    assert found.findings[0].value == 5 and "Nothing found wrong" not in str(found)


def test_few_examples_say_nothing_of_dead_units():
    X, T = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    for seed in range(20):
        net = fastmlp.Network([2, 4, 1], activation="relu", init="he", loss="log_loss", random_state=seed)
        assert "dead units" not in subjects(fastmlp.diagnose(net, X, T))


def test_many_examples_are_sampled(monkeypatch, digits):
    monkeypatch.setattr(diagnostics, "EXAMPLES", 100)
    X, y = digits
    first, second = (fastmlp.diagnose(classifier(), X, y) for _ in range(2))
    assert first.examples == 100 and first.loss == second.loss
    rows = np.sort(np.random.default_rng(0).choice(len(X), 100, replace=False))
    assert first.loss == pytest.approx(classifier().objective(X[rows], y[rows]))


def test_what_diagnose_refuses(digits):
    X, y = digits
    net = classifier()
    with pytest.raises(TypeError, match="model is int; a Network, an MLPClassifier or an MLPRegressor is allowed"):
        fastmlp.diagnose(3, X, y)
    with refused("X has shape (1797, 63)"):
        fastmlp.diagnose(net, X[:, 1:], y)
    with refused("history is list", "Network.train"):
        fastmlp.diagnose(net, X, y, history=[1.0])
    with refused("optimizer is 0.1", "SGD"):
        fastmlp.diagnose(net, X, y, optimizer=0.1)
    with refused("batch_size is 0"):
        fastmlp.diagnose(net, X, y, optimizer=fastmlp.Adam(), batch_size=0)
    with refused("batch_size is 32", "optimizer"):
        fastmlp.diagnose(net, X, y, batch_size=32)
    with refused("X holds nan"):
        fastmlp.diagnose(net, np.where(X > 0.5, np.nan, X), y)
    with refused("validation is not a pair"):
        fastmlp.diagnose(net, X, y, validation=X)
    with pytest.raises(ValueError, match="not fitted"):
        fastmlp.diagnose(fastmlp.MLPClassifier(), X, y)


def test_a_network_needs_no_scikit_learn():
    code = """
import sys
import numpy as np
import fastmlp
net = fastmlp.Network([3, 4, 2], output="softmax", loss="log_loss", random_state=0)
fastmlp.diagnose(net, np.eye(3), [0, 1, 0], optimizer=fastmlp.Adam())
fastmlp.find_learning_rate(net, np.eye(3), [0, 1, 0])
print("sklearn" in sys.modules, "matplotlib" in sys.modules)
"""
    assert run_python("-c", code).split() == ["False", "False"]
