"""Network: construction, parameters, and every number of eq. 1-12 against the lecture (contract 2)."""

import copy
import math
import pickle

import numpy as np
import pytest
import reference
import scipy.sparse
from cases import (
    ACTIVATIONS,
    DTYPES,
    OUTPUTS,
    TOLERANCE,
    assert_close,
    assert_lecture,
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
from fastmlp.cpu.vector import panel_of

# Both sides of every register tile, column panel and row chunk that a host may choose.
SMALL = (1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17, 23, 24, 25, 31, 32, 33)
WIDTHS = (*SMALL, 47, 48, 49, 63, 64, 65, 96, 97, 127, 128, 129)
ROWS = (*range(1, 18), 31, 32, 33, 63, 64, 65, 127, 128, 129, 199, 200, 201, 255, 256, 257, 511, 512, 513, 1000, 1025)


# construction


def test_defaults():
    """The keyword values of the public surface, mirrored as attributes that cannot be set."""
    net = fastmlp.Network([784, 128, 10])
    expected = {
        "sizes": (784, 128, 10),
        "activation": "logistic",
        "output": "logistic",
        "loss": "squared_error",
        "l2": 0.0,
        "dtype": "float32",
        "precision": "float32",
        "dropout": 0.0,
        "device": "cpu",
    }
    assert {name: getattr(net, name) for name in expected} == expected
    for name in expected:
        with pytest.raises(AttributeError):
            setattr(net, name, expected[name])
    assert isinstance(net.weights, tuple) and isinstance(net.biases, tuple)
    assert [W.shape for W in net.weights] == [(784, 128), (128, 10)]
    assert [b.shape for b in net.biases] == [(128,), (10,)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype(dtype):
    net = fastmlp.Network([4, 3], dtype=dtype)
    assert net.weights[0].dtype == net.biases[0].dtype == net.forward(np.ones((2, 4))).dtype == np.dtype(dtype)


def test_small_start():
    """Normal with standard deviation 0.01, weights and biases: the lecture's small random values."""
    net = fastmlp.Network([500, 400, 300], random_state=0)
    for parameters in (*net.weights, np.concatenate(net.biases)):
        assert abs(parameters.mean()) < 5 * 0.01 / parameters.size**0.5
        assert parameters.std() == pytest.approx(0.01, rel=5 / parameters.size**0.5)


@pytest.mark.parametrize(
    ("init", "activation", "deviation"), [("glorot", "tanh", (2 / 900) ** 0.5), ("he", "relu", (2 / 500) ** 0.5)]
)
def test_scaled_start(init, activation, deviation):
    net = fastmlp.Network([500, 400], init=init, activation=activation, output=activation, random_state=0)
    assert net.weights[0].std() == pytest.approx(deviation, rel=0.02)
    assert np.isfinite(net.biases[0]).all()


@pytest.mark.parametrize("make", [int, np.random.default_rng, np.random.RandomState])
def test_random_state(make):
    """The same state, the same bits; another state, others."""
    first, again, other = (fastmlp.Network([4, 5, 3], random_state=make(seed)) for seed in (3, 3, 4))
    assert same_bits(first, again) and not same_bits(first, other)


def test_random_state_none():
    assert not same_bits(fastmlp.Network([4, 3]), fastmlp.Network([4, 3], random_state=None))


@pytest.mark.parametrize("sizes", [[], [4], [4, 0], [4, -3, 2], [4, 2.5], [[4, 3]]])
def test_bad_sizes(sizes):
    with refused():
        fastmlp.Network(sizes)


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("activation", "nope", ACTIVATIONS),
        ("activation", "softmax", ACTIVATIONS),
        ("output", "nope", (*ACTIVATIONS, "softmax")),
        ("loss", "nope", ("squared_error", "log_loss")),
        ("init", "nope", ("small", "glorot", "he")),
        ("dtype", "float16", DTYPES),
        ("precision", "nope", ("float32",)),
        ("precision", "tf32", ("float32",)),
        ("device", "tpu", ("cpu", "cuda", "auto")),
        ("l2", -0.5, ("0",)),
        ("l2", math.nan, ("0",)),
        ("l2", math.inf, ("0",)),
        ("dropout", -0.5, ("0", "1")),
        ("dropout", 1.0, ("0", "1")),
        ("dropout", math.nan, ("0", "1")),
        ("random_state", "nope", ("random_state",)),
    ],
)
def test_bad_argument(argument, value, allowed):
    """A ValueError that names the argument, the value found and what is allowed."""
    with refused(argument, str(value), *allowed):
        fastmlp.Network([4, 3, 2], **{argument: value})


@pytest.mark.parametrize(
    ("output", "loss", "n_out"),
    [
        ("softmax", "squared_error", 3),
        ("softmax", "log_loss", 1),
        *((name, "log_loss", 3) for name in ACTIVATIONS if name != "logistic"),
    ],
)
def test_bad_pair(output, loss, n_out):
    """Softmax goes with log loss and two outputs or more; log loss with logistic or softmax."""
    with refused("softmax" if output == "softmax" else "log_loss", output):
        fastmlp.Network([4, n_out], output=output, loss=loss)


def test_repr():
    text = repr(fastmlp.Network([784, 128, 10], activation="relu", output="softmax", loss="log_loss", l2=0.125))
    assert text.startswith("Network(")
    assert all(word in text for word in ("784, 128, 10", "relu", "softmax", "log_loss", "0.125"))


# parameters


def test_parameters_are_read_only_copies():
    net = network([4, 3, 2])
    held = net.weights[0]
    for array in (*net.weights, *net.biases):
        with pytest.raises(ValueError):
            array[...] = 0
    net.weights = [W + 1 for W in net.weights]
    assert not np.array_equal(held, net.weights[0])


@pytest.mark.parametrize("name", ["weights", "biases"])
def test_assignment_copies(name):
    net = network([4, 3, 2])
    new = [np.asfortranarray(2.0 * p) for p in getattr(net, name)]
    setattr(net, name, new)
    expected = [p.copy() for p in new]
    new[0][...] = 0
    assert_close(getattr(net, name), expected, 0)
    assert getattr(net, name)[0].dtype == np.float32


@pytest.mark.parametrize("name", ["weights", "biases"])
@pytest.mark.parametrize(
    "change",
    [
        lambda p: p[:1],
        lambda p: [*p, p[0]],
        lambda p: p[::-1],
        lambda p: [p[0][:-1], p[1]],
        lambda p: [p[0], np.full_like(p[1], np.nan)],
        lambda p: [p[0], np.full_like(p[1], np.inf)],
        lambda p: [p[0], np.full(p[1].shape, 1e300)],
    ],
    ids=["fewer", "more", "swapped", "shape", "nan", "inf", "overflow"],
)
def test_bad_assignment(name, change):
    """Refused by name, with nothing changed."""
    net, same = network([4, 3, 2]), network([4, 3, 2])
    with refused(name):
        setattr(net, name, change(getattr(net, name)))
    assert same_bits(net, same)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
@pytest.mark.parametrize("optimizer", [fastmlp.SGD(0.1, momentum=0.9), fastmlp.Adam(0.01)], ids=["sgd", "adam"])
def test_clone_goes_on_alike(clone, optimizer):
    """Weights, settings, optimizer state and the shuffling generator travel; the clone is independent."""
    net = network([4, 7, 3], dropout=0.2, l2=0.01)
    X, T = data(net, 53)
    net.train(X, T, optimizer=optimizer, batch_size=8, epochs=2)
    twin = clone(net)
    assert same_bits(net, twin) and repr(net) == repr(twin)
    assert np.array_equal(net.forward(X), twin.forward(X))
    net.train(X, T, optimizer=optimizer, batch_size=8, epochs=2)
    assert not same_bits(net, twin)
    twin.train(X, T, optimizer=optimizer, batch_size=8, epochs=2)
    assert same_bits(net, twin)


# numbers


def test_drawn_network():
    """The 3-3-1 network of the slide, every weight named, in scalar arithmetic."""
    net = network([3, 3, 1], dtype="float64")
    (x_1, x_2, x_3), (W_1, W_2), (b_1, b_2) = [0.5, -1.0, 2.0], net.weights, net.biases
    a = [reference.logistic(W_1[0, j] * x_1 + W_1[1, j] * x_2 + W_1[2, j] * x_3 + b_1[j]) for j in range(3)]
    h = reference.logistic(W_2[0, 0] * a[0] + W_2[1, 0] * a[1] + W_2[2, 0] * a[2] + b_2[0])
    assert net.forward([[x_1, x_2, x_3]])[0, 0] == pytest.approx(h, rel=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("output", "loss"), OUTPUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_functions(activation, output, loss, dtype):
    """Every activation with every output and loss, with a penalty and with sample weights."""
    net = network([7, 17, 9, 3], activation=activation, output=output, loss=loss, dtype=dtype, l2=0.1)
    X, T = data(net, 33)
    assert_lecture(net, X, T)
    assert_lecture(net, X, T, sample_weight=np.arange(33) / 4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("width", WIDTHS)
def test_widths(width, place, dtype):
    """Each width as input, hidden and output layer, among ragged others, on a ragged number of rows."""
    r = np.random.default_rng([width, place])
    *sizes, m = r.choice(SMALL, 4).tolist()
    sizes[place] = width
    output, loss = ("softmax", "log_loss") if sizes[-1] > 1 else ("tanh", "squared_error")
    net = network(sizes, activation="softplus", output=output, loss=loss, dtype=dtype, l2=0.01)
    assert_lecture(net, *data(net, m))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", ROWS)
def test_rows(m, dtype):
    """Row counts on both sides of row tiles and of the chunks that full passes work in."""
    net = network([6, 10, 3], activation="relu", dtype=dtype)
    assert_lecture(net, *data(net, m), sample_weight=np.random.default_rng(m).random(m))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("panels", range(1, 10))
def test_a_row_alone_has_the_bits_of_a_row_among_many(panels, dtype):
    """Layers of some panels, full and ragged, whose sums over the sources are of one block and of several."""
    P = panel_of(np.dtype(dtype))
    for sizes in ([panels * P, 4 * P], [4 * P + 3, panels * P - 1, 5], [7, panels * P - P // 2, 8 * P + 1, panels * P]):
        net = network(sizes, activation="softplus", dtype=dtype)
        X, _ = data(net, 37)
        h = net.forward(X)
        assert relative_error(h, reference.forward(lecture(net), X)) < TOLERANCE[dtype]
        assert all(np.array_equal(net.forward(X[r : r + 1]), h[r : r + 1]) for r in range(len(X)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("output", "loss"), OUTPUTS)
def test_shallow_end(output, loss, dtype):
    """No hidden layer: linear, logistic, softmax regression."""
    net = network([13, 4], output=output, loss=loss, dtype=dtype, l2=0.1)
    assert_lecture(net, *data(net, 37))


@pytest.mark.parametrize(
    ("activation", "dtype"),
    [*((name, "float64") for name in ACTIVATIONS), ("tanh", "float32"), ("relu", "float32"), ("softplus", "float32")],
)
def test_deep(activation, dtype):
    """60 layers."""
    net = network([5, *[17] * 58, 3], activation=activation, dtype=dtype)
    X, T = data(net, 9)
    assert_lecture(net, X, T)
    assert np.any(net.gradients(X, T)[0][0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [[20000, 5], [20000, 9, 2], [3, 20000, 2], [2, 3, 20001]])
def test_wide(sizes, dtype):
    net = network(sizes, dtype=dtype, activation="tanh", output="tanh")
    assert_lecture(net, *data(net, 9))


@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=6),
    m=st.integers(1, 80),
    activation=st.sampled_from(ACTIVATIONS),
    pair=st.sampled_from(OUTPUTS),
    dtype=st.sampled_from(DTYPES),
    l2=st.sampled_from([0.0, 0.01, 1.0]),
    weighted=st.booleans(),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=120)
def test_any_architecture(sizes, m, activation, pair, dtype, l2, weighted, seed):
    if pair[0] == "softmax":
        sizes[-1] += 1
    net = network(sizes, seed, activation=activation, output=pair[0], loss=pair[1], dtype=dtype, l2=l2)
    weight = np.random.default_rng(seed).random(m) + 0.1 if weighted else None
    assert_lecture(net, *data(net, m, seed + 1), sample_weight=weight)


@pytest.mark.parametrize(("output", "loss"), OUTPUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_finite_differences(activation, output, loss):
    """The gradients are the slopes of the objective: of the package's, and of the reference that judges it."""
    net = network([3, 4, 2], activation=activation, output=output, loss=loss, dtype="float64", l2=0.1)
    X, T = data(net, 5)
    weight = np.arange(1.0, 6.0)
    found, twin, step = net.gradients(X, T, sample_weight=weight), lecture(net), 1e-6
    for name, expected in zip(("weights", "biases"), found, strict=True):
        for l, parameters in enumerate(getattr(twin, name)):
            slopes, reference_slopes = np.empty_like(parameters), np.empty_like(parameters)
            for index in np.ndindex(parameters.shape):
                J, J_reference = [], []
                for sign in (1, -1):
                    moved = [p.copy() for p in getattr(twin, name)]
                    moved[l][index] += sign * step
                    setattr(net, name, moved)
                    J.append(net.objective(X, T, sample_weight=weight))
                    J_reference.append(reference.objective(twin._replace(**{name: moved}), X, T, weight))
                slopes[index] = (J[0] - J[1]) / (2 * step)
                reference_slopes[index] = (J_reference[0] - J_reference[1]) / (2 * step)
            assert relative_error(expected[l], slopes) < 1e-7
            assert relative_error(expected[l], reference_slopes) < 1e-7
        setattr(net, name, getattr(twin, name))


def test_relu_derivative_at_zero():
    """f'(0) = 0: a hidden unit with z = 0 passes no error back."""
    net = fastmlp.Network([2, 3, 1], activation="relu", output="identity")
    net.weights, net.biases = [np.zeros((2, 3)), np.ones((3, 1))], [np.zeros(3), np.zeros(1)]
    hidden, _ = net.deltas(np.ones((4, 2)), np.ones((4, 1)))
    assert not hidden.any()


@pytest.mark.parametrize(
    ("activation", "ulp"), [("identity", 0), ("relu", 0), ("logistic", 2), ("softplus", 2), ("tanh", 4)]
)
def test_float32_units_in_the_last_place(activation, ulp):
    """Contract 2: activations within 2 ulp (tanh 4) wherever the result is a normal number."""
    net = fastmlp.Network([1, 1, 1], activation=activation, output=activation)
    net.weights, net.biases = [np.ones((1, 1))] * 2, [np.zeros(1)] * 2
    small = np.geomspace(1e-30, 1, 3001)
    for z, a in net.layers(np.concatenate([np.linspace(-86, 86, 20001), small, -small])[:, None]):
        exact = np.array([[reference.FUNCTIONS[activation][0](z_k)] for z_k in z[:, 0].tolist()], np.float32)
        assert (abs(a - exact) / np.spacing(abs(exact))).max() <= ulp


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ends", [(-80, -30), (-30, -5), (-1e-3, 1e-3), (5, 30), (30, 80)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_ranges(activation, ends, dtype):
    """Contract 2 holds for an array of nothing but far, or of nothing but tiny, z."""
    net = fastmlp.Network([1, 1], output=activation, dtype=dtype)
    net.weights, net.biases = [np.ones((1, 1))], [np.zeros(1)]
    X = np.linspace(*ends, 401, dtype=np.float32)[:, None]
    assert_close([net.forward(X)], [reference.forward(lecture(net), X)], TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("output", ["logistic", "softmax"])
def test_log_loss_of_extreme_z(output, dtype):
    """Computed from z: finite, and right, where the output is 0 or 1 to the last bit."""
    net = fastmlp.Network([1, 2], output=output, loss="log_loss", dtype=dtype)
    net.weights, net.biases = [[[1000.0, -1000.0]]], [[0.0, 0.0]]
    X, T = [[1.0], [-1.0], [0.5]], np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    assert net.objective(X, T) == pytest.approx(reference.objective(lecture(net), X, T), rel=TOLERANCE[dtype])
    np.testing.assert_array_equal(net.forward(X).round(30), [[1, 0], [0, 1], [1, 0]])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_extreme_z_is_finite(activation):
    net = fastmlp.Network([1, 1], output=activation)
    net.weights, net.biases = [[[1.0]]], [[0.0]]
    X = np.array([-1e30, -1e4, -200, -100, -90, 90, 100, 200, 1e4, 1e30])[:, None]
    exact = reference.forward(lecture(net), X)
    np.testing.assert_allclose(net.forward(X), exact, rtol=1e-6, atol=1e-37)


def test_weighted_mean():
    """Weights scale out; an example of weight 0 is absent, one of weight 2 is there twice."""
    net = network([4, 5, 3], dtype="float64", l2=0.1)
    X, T = data(net, 7)
    weight = np.array([0, 1, 1, 1, 0, 2, 1])
    rows = [1, 2, 3, 5, 5, 6]
    expected = net.objective(X[rows], T[rows])
    assert net.objective(X, T, sample_weight=weight) == pytest.approx(expected, rel=1e-13)
    assert net.objective(X, T, sample_weight=10 * weight) == pytest.approx(expected, rel=1e-13)
    (dW, db), (dW_rows, db_rows) = net.gradients(X, T, sample_weight=weight), net.gradients(X[rows], T[rows])
    assert_close([*dW, *db], [*dW_rows, *db_rows], 1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [1, 53, 1000])
def test_forward_out(m, dtype):
    net = network([4, 7, 3], dtype=dtype)
    X, _ = data(net, m)
    out = np.full((m, 3), np.nan, dtype)
    assert net.forward(X, out=out) is out
    assert np.array_equal(out, net.forward(X))


@pytest.mark.parametrize(
    "out",
    [np.empty((5, 2), "f4"), np.empty((4, 3), "f4"), np.empty((5, 3), "f8"), np.empty(15, "f4"), [[0.0] * 3] * 5],
    ids=["columns", "rows", "dtype", "flat", "list"],
)
def test_bad_out(out):
    with refused("out"):
        network([4, 7, 3]).forward(np.ones((5, 4)), out=out)


def test_reading_changes_nothing():
    net, same = network([4, 7, 3]), network([4, 7, 3])
    X, T = data(net, 53)
    X_before, T_before = X.copy(), T.copy()
    net.forward(X), net.layers(X), net.deltas(X, T), net.objective(X, T), net.gradients(X, T)
    assert same_bits(net, same) and np.array_equal(X, X_before) and np.array_equal(T, T_before)


def test_transform_is_a_of_a_hidden_layer():
    r = np.random.default_rng(5)
    X = r.random((37, 4))
    for dtype in ("float32", "float64"):
        net = fastmlp.Network([4, 19, 6, 3], activation="softplus", init="he", dtype=dtype, dropout=0.5, random_state=0)
        hidden = [a for _, a in net.layers(X)[:-1]]
        for layer in (0, 1, -1, -2):
            found = net.transform(X, layer=layer)
            assert found.dtype == dtype and np.array_equal(found, hidden[layer])
        assert np.array_equal(net.transform(X), hidden[-1])
        assert np.array_equal(net.transform(scipy.sparse.csr_matrix(X)), hidden[-1])
    for layer in (2, -3, 0.0, True, None):
        with pytest.raises(ValueError, match="layer is .*; an integer from -2 to 1, a hidden layer, is allowed"):
            net.transform(X, layer)
    with pytest.raises(ValueError, match="X has shape"):
        net.transform(X[:, :3])
    with pytest.raises(ValueError, match="the network has no hidden layer"):
        fastmlp.Network([4, 3]).transform(X)


def test_show_versions(capsys):
    fastmlp.show_versions()
    shown = capsys.readouterr().out.lower()
    assert all(word in shown for word in ("fastmlp", fastmlp.__version__, "python", "numba", "numpy", "scipy"))
