"""Saliency against differences of the outputs; permutation importance against scikit-learn's, and by hand."""

import warnings

import numpy as np
import pytest
import scipy.sparse
from cases import DTYPES, OUTPUTS, network, refused, relative_error
from sklearn import inspection

import fastmlp
from fastmlp import Activation

SQUARE = Activation(lambda z: z**2, lambda z: 2.0 * z)


def differences(predict, X, h=1e-5):
    """dh / dx by central differences, (m, n_out, n_in)."""
    columns = []
    for i in range(X.shape[1]):
        step = np.zeros(X.shape[1])
        step[i] = h
        columns.append((predict(X + step) - predict(X - step)) / (2 * h))
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize("output", [*dict(OUTPUTS), SQUARE], ids=str)
def test_saliency_is_the_slope_of_the_outputs(output):
    """dh_j / dx_i for every f of the output, deep and shallow, in both precisions; one output alone; CSR."""
    r = np.random.default_rng(3)
    X = r.standard_normal((41, 6))
    for hidden, activation in (((19, 5), "tanh"), ((), "tanh"), ((8,), SQUARE), ((33,), "relu")):
        settings = {"output": output, "loss": dict(OUTPUTS).get(output, "squared_error"), "activation": activation}
        net = network((6, *hidden, 3), dtype="float64", **settings)
        expected = differences(net.forward, X)
        found = fastmlp.saliency(net, X)
        assert found.shape == (41, 3, 6) and found.dtype == np.float64
        assert relative_error(found, expected) < 1e-7
        for j in range(3):
            assert np.array_equal(fastmlp.saliency(net, X, output=j), found[:, j])
        single = network((6, *hidden, 3), dtype="float32", **settings)
        single.weights, single.biases = net.weights, net.biases
        assert fastmlp.saliency(single, X).dtype == np.float32
        assert relative_error(fastmlp.saliency(single, X), found) < 1e-5
    assert np.array_equal(fastmlp.saliency(net, scipy.sparse.csr_matrix(X)), found)
    assert fastmlp.saliency(net, X[:0]).shape == (0, 3, 6)


def test_saliency_of_estimators():
    r = np.random.default_rng(0)
    X = r.standard_normal((60, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        several = fastmlp.MLPClassifier((7,), activation="tanh", max_iter=20, random_state=0).fit(X, np.arange(60) % 3)
        two = fastmlp.MLPClassifier((7,), activation="tanh", max_iter=20, random_state=0).fit(X, X[:, 0] > 0)
        counts = r.poisson(np.exp(X[:, 0]))
        rate = fastmlp.MLPRegressor("poisson", (7,), activation="tanh", max_iter=20, random_state=0).fit(X, counts)
    assert relative_error(fastmlp.saliency(several, X), differences(several.predict_proba, X)) < 1e-7
    expected = differences(lambda x: two.predict_proba(x)[:, 1:], X)
    assert relative_error(fastmlp.saliency(two, X), expected) < 1e-7
    assert relative_error(fastmlp.saliency(rate, X, output=0), differences(rate.predict, X)) < 1e-7


def test_saliency_refuses():
    net = fastmlp.Network([4, 3, 2], random_state=0)
    X = np.ones((2, 4))
    for output in (2, -1, True, 0.0, "0"):
        with refused("output is", "None or an integer from 0 to 1 is allowed"):
            fastmlp.saliency(net, X, output=output)
    with refused("X has shape"):
        fastmlp.saliency(net, X[:, :3])
    with refused("X holds nan"):
        fastmlp.saliency(net, X * np.nan)
    with pytest.raises(TypeError, match="model is str; a Network, an MLPClassifier or an MLPRegressor is allowed"):
        fastmlp.saliency("net", X)
    with pytest.raises(ValueError, match="not fitted"):
        fastmlp.saliency(fastmlp.MLPClassifier(), X)


@pytest.mark.parametrize("dtype", DTYPES)
def test_permutation_importance(dtype):
    """Of a Network what shuffling one column adds to J; of an estimator scikit-learn's own numbers."""
    r = np.random.default_rng(0)
    X = r.standard_normal((80, 3))
    T = 2 * X[:, :1] + 0.1 * X[:, 1:2]
    net = network((3, 9, 1), output="identity", dtype=dtype)
    net.train(X, T, optimizer=fastmlp.LBFGS(), epochs=100)
    found = fastmlp.permutation_importance(net, X, T, n_repeats=4, random_state=0)
    assert found.importances.shape == (3, 4) and found.importances_mean.argsort()[::-1].tolist() == [0, 1, 2]
    # a shuffled column changes the target by 2 (x - x'): E[(2 (x - x'))^2] / 2 is four variances
    assert found.importances_mean[0] == pytest.approx(4 * X[:, 0].var(), rel=0.3)
    assert found.importances_mean[1] == pytest.approx(0.01 * X[:, 1].var(), rel=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        regressor = fastmlp.MLPRegressor(hidden_layer_sizes=(9,), max_iter=5, random_state=0).fit(X, T.ravel())
    ours = fastmlp.permutation_importance(regressor, X, T.ravel(), random_state=1)
    theirs = inspection.permutation_importance(regressor, X, T.ravel(), random_state=1)
    assert np.array_equal(ours.importances, theirs.importances)
    with refused("scoring is given"):
        fastmlp.permutation_importance(net, X, T, scoring="r2")
