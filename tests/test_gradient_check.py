"""check_gradients: eq. 8-11 against finite differences of eq. 6."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from cases import ACTIVATIONS, DTYPES, OUTPUTS, data, network, refused, same_bits

import fastmlp
from fastmlp import gradient_check

pytestmark = pytest.mark.filterwarnings("ignore:.*[Mm]aximum iterations", "ignore:lbfgs failed")


@pytest.mark.parametrize(("output", "loss"), OUTPUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_check_gradients(activation, output, loss):
    """The largest relative error of each parameter array, by name."""
    net, same = (network([4, 6, 5, 3], activation=activation, output=output, loss=loss, l2=0.1) for _ in range(2))
    errors = fastmlp.check_gradients(net, *data(net, 11))
    assert isinstance(errors, dict) and len(errors) == 6
    assert all(isinstance(name, str) and 0 <= error < 1e-6 for name, error in errors.items())
    assert same_bits(net, same)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype(dtype):
    """Measured in float64 whatever the network's dtype, so that rounding does not drown it."""
    net = network([3, 4, 2], activation="tanh", dtype=dtype)
    errors = fastmlp.check_gradients(net, *data(net, 5))
    assert max(errors.values()) < 1e-6 and net.dtype == dtype


def test_labels_and_lists():
    net = network([2, 3, 3], output="softmax", loss="log_loss")
    errors = fastmlp.check_gradients(net, [[0.5, 1.0], [-1.0, 2.0]], np.array([0, 2]))
    assert max(errors.values()) < 1e-6


@pytest.mark.parametrize(("activation", "output"), [("relu", "identity"), ("tanh", "relu"), ("relu", "relu")])
def test_rows_at_a_kink_are_left_out(activation, output):
    """With biases of zero a row of zeros has z = 0, where differences give the mean of both slopes."""
    net = fastmlp.Network([4, 6, 5, 3], activation=activation, output=output, init="he", random_state=0)
    X, T = data(net, 12)
    X[[2, 7]] = 0.0
    errors = fastmlp.check_gradients(net, X, T)
    assert max(errors.values()) < 1e-6
    assert errors == fastmlp.check_gradients(net, np.delete(X, [2, 7], 0), np.delete(T, [2, 7], 0))
    with refused("each of the 3 rows of X", "kink"):
        fastmlp.check_gradients(net, np.zeros((3, 4)), T[:3])


@pytest.mark.parametrize("output", ["identity", "relu"])
def test_no_unit_crosses_its_kink_in_what_is_kept(output):
    """With steps so long that many examples are left out: each parameter moved, no z of the others changes sign."""
    step, rng = 3e-3, np.random.default_rng(0)
    net = fastmlp.Network([3, 8, 6, 2], activation="relu", output=output, dtype="float64", init="he", random_state=0)
    X = 2 * rng.standard_normal((200, 3))
    near = gradient_check._near_kinks(net, X, np.zeros((200, 2)), step)
    assert 0.2 < near.mean() < 0.8
    kept, last = X[~near], 3 if output == "relu" else 2
    before = [z > 0 for z, _ in net.layers(kept)[:last]]
    crossed = 0
    for kind in ("weights", "biases"):
        arrays = [np.array(array) for array in getattr(net, kind)]
        for array in arrays:
            for place, value in np.ndenumerate(array):
                for sign in (1, -1):
                    array[place] = value + sign * step * max(1.0, abs(value))
                    setattr(net, kind, arrays)
                    crossed += sum(np.sum((z > 0) != b) for (z, _), b in zip(net.layers(kept), before))
                array[place] = value
        setattr(net, kind, arrays)
    assert crossed == 0


def test_jumps():
    """f' of a named activation jumps with relu only; that of others is looked at on both sides."""
    z, reach = np.array([-1e-5, 0.0, 5e-7, 2.0]), np.full(4, 1e-6)
    leaky = SimpleNamespace(f=lambda z: max(z, 0.01 * z), df=lambda z: 1.0 if z > 0 else 0.01)
    swish = SimpleNamespace(df=lambda z: (1 + math.exp(-z) * (1 + z)) / (1 + math.exp(-z)) ** 2)
    root = SimpleNamespace(df=lambda z: 0.5 / math.sqrt(z))
    absolute = SimpleNamespace(df=lambda a, y: 1.0 if a > y else -1.0)
    assert gradient_check._jumps("relu", z, reach).tolist() == [False, True, True, False]
    assert gradient_check._jumps(leaky, z, reach).tolist() == [False, True, True, False]
    assert gradient_check._jumps(root, z, reach).tolist() == [True, True, True, False]
    assert gradient_check._jumps(absolute, z, reach, z[::-1]).tolist() == [False, True, True, False]
    assert not any(gradient_check._jumps(f, z, reach).any() for f in ("tanh", "softplus", swish))


def test_a_wrong_gradient_is_seen(monkeypatch):
    right = fastmlp.Network.gradients

    def wrong(self, X, T):
        dW, db = right(self, X, T)
        dW[1][2, 1] *= 1.001
        return dW, db

    monkeypatch.setattr(fastmlp.Network, "gradients", wrong)
    net = network([4, 6, 5], activation="relu")
    errors = fastmlp.check_gradients(net, *data(net, 9))
    assert errors.pop("weights[1]") > 1e-5 and max(errors.values()) < 1e-6


def test_step():
    net = network([2, 3, 1], activation="tanh")
    X, T = data(net, 5)
    fine, coarse = (max(fastmlp.check_gradients(net, X, T, step=step).values()) for step in (1e-3, 0.1))
    assert fine < 1e-9 < 1e-6 < coarse  # the error grows with the step's fourth power
    with refused("step is 0", "a finite number > 0"):
        fastmlp.check_gradients(net, X, T, step=0)


def test_some_entries(monkeypatch):
    """Of each array as many as are asked for; with all of them the numbers are those of the whole check."""
    net = network([30, 20, 3], activation="tanh")
    X, T = data(net, 20)
    seen, objective = [], fastmlp.Network.objective
    monkeypatch.setattr(fastmlp.Network, "objective", lambda *given: seen.append(1) or objective(*given))
    some = fastmlp.check_gradients(net, X, T, entries=5)
    assert len(seen) == 4 * (5 + 5 + 5 + 3) and max(some.values()) < 1e-6
    assert fastmlp.check_gradients(net, X, T, entries=1000) == fastmlp.check_gradients(net, X, T)
    for entries in (0, 1.5, True):
        with refused("entries is", "None or an integer >= 1"):
            fastmlp.check_gradients(net, X, T, entries=entries)


def test_what_is_no_network_is_refused():
    with pytest.raises(TypeError, match="network is int; a Network, an Activation or a Loss is allowed"):
        fastmlp.check_gradients(3, np.ones((2, 2)), np.ones((2, 1)))


LEAKY = fastmlp.Activation(lambda z: max(z, 0.01 * z), lambda z: 1.0 if z > 0 else 0.01, name="leaky relu")
SWISH = fastmlp.Activation(
    lambda z: z / (1 + math.exp(-z)), lambda z: (1 + math.exp(-z) * (1 + z)) / (1 + math.exp(-z)) ** 2, name="swish"
)
QUANTILE = fastmlp.Loss(lambda a, y: max(0.9 * (y - a), 0.1 * (a - y)), lambda a, y: -0.9 if a < y else 0.1, name="0.9")


@pytest.mark.parametrize("loss", ["squared_error", QUANTILE], ids=str)
@pytest.mark.parametrize(("activation", "output"), [(LEAKY, "identity"), (SWISH, LEAKY), ("relu", SWISH)], ids=str)
def test_pieces_of_the_users_own(activation, output, loss):
    net = fastmlp.Network([4, 6, 5, 3], activation, output, loss, init="he", random_state=0)
    X, T = data(network([4, 3], output="identity"), 12)
    X[3], T[5] = 0.0, fastmlp.Network.forward(net, X)[5]
    errors = fastmlp.check_gradients(net, X, T)
    assert max(errors.values()) < 1e-6
    if loss == QUANTILE:
        with refused("each of the 12 rows"):
            fastmlp.check_gradients(_double(net), X, _double(net).forward(X))
    found = fastmlp.diagnose(net, X, T, optimizer=fastmlp.Adam())
    assert math.isnan(found.baseline) == (loss == QUANTILE) and np.isfinite(found.layers["delta"]).all()
    assert found.findings == []


def _double(net):
    twin = fastmlp.Network(net.sizes, net.activation, net.output, net.loss, dtype="float64", random_state=0)
    twin.weights, twin.biases = net.weights, net.biases
    return twin
