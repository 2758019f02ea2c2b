"""estimate: what it counts is what there is; how near its times come is benchmarks/estimates.py's question."""

import math
import tracemalloc
import warnings

import numpy as np
import pytest
from cases import refused

import fastmlp
from fastmlp import LBFGS, SGD, Adam, GradientDescent, costs
from fastmlp.cpu.peak import peak


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(costs, "TRIAL_SECONDS", 0.02)


@pytest.mark.parametrize("optimizer", [SGD(0.1), SGD(0.1, 0.9), Adam(), GradientDescent(0.1), LBFGS()], ids=str)
@pytest.mark.parametrize("sizes, m, batch_size", [((784, 128, 10), 3000, 64), ((300, 200, 200, 2), 700, 400)])
def test_memory_is_what_training_takes(sizes, m, batch_size, optimizer):
    """Within 30% of what NumPy and SciPy allocate for a network and its training, beside X and T."""
    size = None if isinstance(optimizer, (GradientDescent, LBFGS)) else batch_size
    found = fastmlp.estimate(sizes, m, size, epochs=3, optimizer=optimizer)
    r = np.random.default_rng(0)
    X, T = r.random((m, sizes[0]), np.float32), r.random((m, sizes[-1]), np.float32)
    assert found.data == X.nbytes + T.nbytes
    tracemalloc.start()
    net = fastmlp.Network(sizes, random_state=0)
    tracemalloc.reset_peak()
    net.train(X, T, optimizer=optimizer, epochs=3, **({} if size is None else {"batch_size": size}))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.memory == pytest.approx(most, rel=0.3), (found.memory, most)


def test_times_are_in_proportion():
    """Epochs, and more examples than a trial has, multiply the time; the share is operations over time and peak."""
    few = fastmlp.estimate([64, 32, 10], 2048, 32, epochs=2)
    assert few.seconds == 2 * few.seconds_an_epoch > 0
    assert few.operations == 2048 * (6 * (64 * 32 + 32 * 10) - 2 * 64 * 32)
    assert few.share == few.operations / few.seconds_an_epoch / few.peak and 0 < few.share < 1.2
    trials = []
    original = costs._trial
    try:
        costs._trial = lambda network, optimizer, size, rows, kind: trials.append(rows) or 0.01
        many = fastmlp.estimate([64, 32, 10], 10**9, 30, epochs=5)
    finally:
        costs._trial = original
    assert trials[0] == 1050 and many.seconds_an_epoch == pytest.approx(0.01 * 10**9 / trials[-1])
    assert many.data == 10**9 * 74 * 4


def test_a_network_is_not_changed():
    net = fastmlp.Network([20, 9, 3], output="softmax", loss="log_loss", dtype="float64", random_state=0)
    X = np.random.default_rng(0).random((50, 20))
    net.train(X, np.arange(50) % 3, optimizer=Adam(), epochs=2)
    before, state = net.weights, net._rng.bit_generator.state
    found = fastmlp.estimate(net, 500, 50, epochs=4, x_dtype="uint8")
    assert all(map(np.array_equal, net.weights, before)) and net._rng.bit_generator.state == state
    assert found.dtype == "float64" and found.data == 500 * (20 + 3 * 8) and found.sizes == (20, 9, 3)
    assert net._optimizer == Adam() and f"{found.epochs} epochs of 20-9-3 in float64, 500 examples" in str(found)


def test_estimators_are_networks_with_settings():
    X = np.random.default_rng(0).random((80, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classifier = fastmlp.MLPClassifier((9,), batch_size=16, max_iter=2, random_state=0).fit(X, np.arange(80) % 3)
        full = fastmlp.MLPRegressor(hidden_layer_sizes=(9,), solver="lbfgs", max_iter=2, random_state=0).fit(X, X[:, 0])
    before = [W.copy() for W in classifier.coefs_]
    found = fastmlp.estimate(classifier, 1000, epochs=3)
    assert (found.sizes, found.batch_size, found.dtype, found.m) == ((6, 9, 3), 16, "float64", 1000)
    assert all(map(np.array_equal, classifier.coefs_, before))
    assert fastmlp.estimate(full, 1000).batch_size == 1000
    with refused("batch_size is 5", "an estimator has its own"):
        fastmlp.estimate(classifier, 1000, 5)


def test_a_trial_needs_little_memory():
    """However many examples, and minibatches however large, there are to be."""
    tracemalloc.start()
    for size, optimizer in ((None, GradientDescent(0.1)), (10**9, SGD(0.1)), (None, LBFGS())):
        found = fastmlp.estimate([784, 16, 10], 10**9, size, optimizer=optimizer)
        assert found.batch_size == 10**9 and found.seconds > 10
    assert tracemalloc.get_traced_memory()[1] < 200e6
    tracemalloc.stop()


def test_ctrl_c_ends_it(monkeypatch):
    """In the first training, whose epochs are compiled or warm, as in the second."""
    original = fastmlp.Network.train

    def interrupted(self, *given, **more):
        def interrupt(network, history):
            raise KeyboardInterrupt

        return original(self, *given, **{**more, "callbacks": [interrupt]})

    monkeypatch.setattr(fastmlp.Network, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fastmlp.estimate([3, 2], 50)


def test_what_is_wrong_is_refused():
    for m in (0, -1, 1.5, True, None):
        with refused("m is", "an integer >= 1 is allowed"):
            fastmlp.estimate([3, 2], m)
    with refused("epochs is -1"):
        fastmlp.estimate([3, 2], 10, epochs=-1)
    with refused("batch_size is 0"):
        fastmlp.estimate([3, 2], 10, 0)
    with refused("batch_size is 5", "GradientDescent uses all examples"):
        fastmlp.estimate([3, 2], 10, 5, optimizer=GradientDescent(0.1))
    with refused("sizes is [3]"):
        fastmlp.estimate([3], 10)
    with refused("optimizer is 'adam'"):
        fastmlp.estimate([3, 2], 10, optimizer="adam")
    with refused("x_dtype is 'text'"):
        fastmlp.estimate([3, 2], 10, x_dtype="text")
    own = fastmlp.Loss(lambda a, y: -math.log(a), lambda a, y: -1.0 / a)
    net = fastmlp.Network([3, 2], output="identity", loss=own, random_state=0)
    net.biases = [[-9.0, -9.0]]
    with refused("the loss of made-up examples is not finite"):
        fastmlp.estimate(net, 10)
    with refused("device is 'auto'; 'cpu' and 'cuda' are allowed"):
        fastmlp.estimate([3, 2], 10, device="auto")


def test_durations_and_sizes_are_told_in_units():
    told = [costs._duration(s) for s in (7200, 90, 2.5, 0.004, 3e-6)]
    assert told == ["2 h", "1.5 min", "2.5 s", "4 ms", "3 us"]
    assert [costs._size(n) for n in (5e9, 1.5e6, 2e3, 12)] == ["5 GB", "1.5 MB", "2 kB", "12 bytes"]


def test_the_peak_is_a_peak():
    """More than a hundred million operations a second, and no more than any processor's thread can."""
    for dtype in ("float32", "float64"):
        assert 1e8 < peak(dtype, 1) < 1e12
