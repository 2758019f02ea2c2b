"""check_gradients: eq. 8-11 against finite differences of eq. 6."""

import numpy as np
import pytest
from cases import ACTIVATIONS, DTYPES, OUTPUTS, data, network, same_bits

import fastmlp


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


def test_show_versions(capsys):
    fastmlp.show_versions()
    shown = capsys.readouterr().out.lower()
    assert all(word in shown for word in ("fastmlp", fastmlp.__version__, "python", "numba", "numpy", "scipy"))


def test_what_is_no_network_is_refused():
    with pytest.raises(TypeError, match="network is int; a Network is allowed"):
        fastmlp.check_gradients(3, np.ones((2, 2)), np.ones((2, 1)))
