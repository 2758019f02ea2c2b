"""to_onnx: what ONNX Runtime makes of the model is what fastmlp predicts, in both dtypes, with nothing left out."""

import pathlib
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
from cases import ACTIVATIONS, DTYPES, OUTPUTS, TOLERANCE, network, refused, relative_error
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.neural_network import MLPClassifier

import fastmlp
from fastmlp import onnx_export

ROWS = (0, 1, 37)
CLASSES = {  # and the dtype of "label"
    "integers": (np.array([7, -3, 40]), np.int64),
    "binary": (np.array([5, 2]), np.int64),
    "small integers": (np.array([3, 200, 7], np.uint8), np.int64),
    "large integers": (np.array([1, 2**63 + 1], np.uint64), np.uint64),
    "strings": (np.array(["oak", "yew", "ch\u00eane"]), object),
    "objects": (np.array(["oak", "a longer name"], dtype=object), object),
    "booleans": (np.array([True, False]), np.bool_),
    "floats": (np.array([1.0, 2.0, 5.0]), np.float64),
    "single precision": (np.array([1, 2, 5], np.float32), np.float32),
    "one class": (np.array([4]), np.int64),
    "one string": (np.array(["oak"]), object),
}


def run(model, X):
    """The outputs by name, of a model that ONNX's checker has nothing against."""
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert [(i.name, i.shape[0]) for i in session.get_inputs()] == [("X", "m")]
    outputs = session.get_outputs()
    found = session.run(None, {"X": X})
    for output, array in zip(outputs, found):
        assert output.shape == ["m", *array.shape[1:]]
    return dict(zip([output.name for output in outputs], found))


def examples(m, n, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal((m, n)).astype(dtype)


def fitted(estimator, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(X, y)


def assert_network(net, X):
    found = run(fastmlp.to_onnx(net), X)
    assert list(found) == ["h"] and found["h"].dtype == net.dtype
    assert relative_error(found["h"], net.forward(X)) <= TOLERANCE[net.dtype]


# ---- networks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("output, loss", OUTPUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation, output, loss, dtype):
    net = network([7, 33, 18, 3], activation=activation, output=output, loss=loss, dtype=dtype)
    for m in ROWS:
        assert_network(net, examples(m, 7, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(1, 1), (5, 2), (1, 4, 1), (64, 10), (3, 300, 2), (5,) * 9, (129, 65, 17)], ids=str)
def test_every_shape(sizes, dtype):
    for output, loss in OUTPUTS:
        if output != "softmax" or sizes[-1] > 1:
            net = network(sizes, activation="tanh", output=output, loss=loss, dtype=dtype)
            assert_network(net, examples(37, sizes[0], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("output", ["logistic", "softplus", "softmax"])
def test_small_outputs_keep_their_digits(output, dtype):
    """Each number by itself: ln(1 + e^z) and 1 / (1 + e^-z), written as they read, are 0 long before e^z is."""
    net = network([1, 2], output=output, loss="log_loss" if output == "softmax" else "squared_error", dtype=dtype)
    net.weights, net.biases = [[[1.0, -1.0]]], [[0.0, 0.0]]
    X = np.linspace(-40, 40, 801, dtype=dtype).reshape(-1, 1)
    found = run(fastmlp.to_onnx(net), X)["h"]
    np.testing.assert_allclose(found, net.forward(X), rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("output, loss", OUTPUTS)
def test_nothing_overflows(output, loss, dtype):
    net = network([1, 2], output=output, loss=loss, dtype=dtype)
    net.weights, net.biases = [[[1.0, -1.0]]], [[0.0, 0.0]]
    assert_network(net, np.array([[-1e30], [-1e4], [1e4], [1e30]], dtype))


def test_weights_are_those_of_the_moment():
    net = network([3, 4, 2])
    model, X = fastmlp.to_onnx(net), examples(9, 3, "float32")
    before = net.forward(X)
    net.weights = [2 * W for W in net.weights]
    assert relative_error(run(model, X)["h"], before) <= TOLERANCE["float32"]
    assert_network(net, X)


# ---- estimators ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", CLASSES)
def test_classes(kind, dtype):
    classes, label_dtype = CLASSES[kind]
    X, y = examples(60, 6, dtype), np.resize(classes, 60)
    classifier = fitted(fastmlp.MLPClassifier((9,), max_iter=3, random_state=0), X, y)
    model = fastmlp.to_onnx(classifier)
    for m in ROWS[1:]:
        found = run(model, X[:m])
        assert list(found) == ["label", "probabilities"]
        assert found["label"].dtype == label_dtype and found["probabilities"].dtype == dtype
        assert np.array_equal(found["label"], classifier.predict(X[:m]))
        assert relative_error(found["probabilities"], classifier.predict_proba(X[:m])) <= TOLERANCE[dtype]
    nothing = run(model, X[:0])
    assert nothing["label"].shape == (0,) and nothing["probabilities"].shape == found["probabilities"][:0].shape


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("labels", [2, 5])
def test_multilabel(labels, dtype):
    X = examples(60, 6, dtype)
    Y = (X @ examples(6, labels, dtype, seed=1) > 0).astype(int)
    classifier = fastmlp.MLPClassifier((9,), "softplus", solver="lbfgs", max_iter=30, random_state=0)
    fitted(classifier, X, Y)
    found, expected = run(fastmlp.to_onnx(classifier), X), classifier.predict(X)
    assert 0 < expected.mean() < 1
    assert found["label"].dtype == np.int64 and np.array_equal(found["label"], expected)
    assert relative_error(found["probabilities"], classifier.predict_proba(X)) <= TOLERANCE[dtype]
    assert [array.shape for array in run(fastmlp.to_onnx(classifier), X[:0]).values()] == [(0, labels)] * 2


def test_a_draw_goes_to_the_first_class():
    X = examples(6, 2, "float64")
    for classes in (["a", "b"], ["a", "b", "c"]):
        classifier = fitted(fastmlp.MLPClassifier((), max_iter=1, random_state=0), X, np.resize(classes, 6))
        classifier.coefs_, classifier.intercepts_ = [0 * W for W in classifier.coefs_], [0 * classifier.intercepts_[0]]
        assert set(classifier.predict(X)) == {"a"}
        assert set(run(fastmlp.to_onnx(classifier), X)["label"]) == {"a"}


def test_partial_fit_before_all_classes_were_seen():
    X = examples(20, 4, "float32")
    classifier = fastmlp.MLPClassifier((5,), random_state=0).partial_fit(X, np.resize([1, 2], 20), classes=[0, 1, 2])
    found = run(fastmlp.to_onnx(classifier), X)
    assert np.array_equal(found["label"], classifier.predict(X))
    assert found["probabilities"].shape == (20, 3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("loss", ["squared_error", "poisson", "huber", "absolute_error"])
def test_regressor(loss, n_outputs, dtype):
    X = examples(60, 6, dtype)
    Y = np.abs(examples(60, n_outputs, dtype, seed=1))
    Y = Y[:, 0] if n_outputs == 1 else Y
    regressor = fitted(fastmlp.MLPRegressor(loss, (9, 8), max_iter=3, random_state=0), X, Y)
    model = fastmlp.to_onnx(regressor)
    for m in ROWS[1:]:
        found = run(model, X[:m])
        assert list(found) == ["y"] and found["y"].dtype == dtype
        assert relative_error(found["y"], regressor.predict(X[:m])) <= TOLERANCE[dtype]
    assert run(model, X[:0])["y"].shape == Y[:0].shape


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_hidden_activations_of_estimators(activation):
    X = examples(60, 6, "float64")
    regressor = fitted(fastmlp.MLPRegressor("poisson", (9,), activation, max_iter=3, random_state=0), X, X[:, 0] ** 2)
    assert relative_error(run(fastmlp.to_onnx(regressor), X)["y"], regressor.predict(X)) <= TOLERANCE["float64"]


# ---- the file, and errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, pathlib.Path])
def test_file(kind, tmp_path):
    path = tmp_path / "network.onnx"
    model = fastmlp.to_onnx(network([3, 4, 2]), kind(path))
    assert onnx.load(path) == model
    assert (model.producer_name, model.producer_version) == ("fastmlp", fastmlp.__version__)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)] and model.ir_version == 8


def test_refuses_other_models():
    for model in (MLPClassifier(), fastmlp.MLPRegressor, None):
        with pytest.raises(TypeError, match=f"model is {type(model).__name__}; a Network"):
            fastmlp.to_onnx(model)


def test_refuses_what_is_not_fitted():
    for estimator in (fastmlp.MLPClassifier(), fastmlp.MLPRegressor()):
        with pytest.raises(NotFittedError):
            fastmlp.to_onnx(estimator)


def test_refuses_what_no_file_holds(monkeypatch, tmp_path):
    net = network([3, 4, 2])  # 26 numbers
    monkeypatch.setattr(onnx_export, "LARGEST", 103)
    with refused("model has 104 bytes", "at most 103"):
        fastmlp.to_onnx(net, tmp_path / "network.onnx")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(onnx_export, "LARGEST", 104)
    fastmlp.to_onnx(net)


def test_refuses_classes_that_onnx_has_not():
    y = np.resize(np.array(["2001-01-01", "2002-02-02"], "datetime64[D]"), 20)
    classifier = fitted(fastmlp.MLPClassifier((3,), max_iter=1, random_state=0), examples(20, 2, "float32"), y)
    with refused("classes_", "datetime64[D]", "numbers and strings"):
        fastmlp.to_onnx(classifier)


def test_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'fastmlp\[onnx\]'"):
        fastmlp.to_onnx(network([3, 4, 2]))
