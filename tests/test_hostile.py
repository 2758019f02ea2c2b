"""Hostile numbers and shapes: each has a right answer or an error that says what to do (contracts 3 and 4)."""

import copy

import numpy as np
import pandas
import pytest
import scipy.sparse
from cases import DTYPES, assert_close, assert_parameters, data, lecture, network, reference, refused, same_bits
from sklearn.exceptions import NotFittedError

import fastmlp
from fastmlp import backend
from fastmlp.cpu.trainer import Epochs

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
SOFTMAX = {"output": "softmax", "loss": "log_loss"}


# numbers that are not finite, in one row


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["X", "T"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_last_row(name, value, shuffle):
    """It is met after hundreds of updates, which are taken back; the generator is where it was."""
    net, twin = (network([4, 7, 3], output="identity") for _ in range(2))
    X, T = data(net, 2003)
    wrong = {"X": X.copy(), "T": T.copy()}
    wrong[name][-1, 1] = value
    with refused(name, str(value), "row 2002", "column 1"):
        net.train(wrong["X"], wrong["T"], optimizer=fastmlp.SGD(0.01), batch_size=8, shuffle=shuffle, epochs=2)
    for each in (net, twin):
        each.train(X, T, optimizer=fastmlp.SGD(0.01), batch_size=8, shuffle=shuffle, epochs=1)
    assert same_bits(net, twin)


def test_half_that_overflowed():
    """float16 ends at 65504; what was beyond is inf and refused, what was not is trained on."""
    net = network([4, 3], output="identity", dtype="float64")
    X, T = data(net, 20)
    with np.errstate(over="ignore"):
        X, large = (X * 1e4).astype(np.float16), (X * 1e6).astype(np.float16)
    assert np.isinf(large).any() and np.isfinite(X).all()
    for use in (net.forward, lambda X: net.objective(X, T)):
        with refused("X", "inf"):
            use(large)
    assert_close([net.forward(X)], [reference.forward(lecture(net), X)], 1e-12)


@pytest.mark.parametrize(("label", "dtype"), [(-1, "int8"), (-(2**63), "int64"), (2**64 - 1, "uint64"), (3, "uint8")])
def test_labels_out_of_range(label, dtype):
    net, labels = network([4, 3], **SOFTMAX), np.zeros(20, dtype)
    labels[-1] = label
    with refused("T", str(label), "0 ... 2"):
        net.train(np.ones((20, 4)), labels, optimizer=fastmlp.SGD(0.1))


def test_label_changed_in_a_callback():
    """What the check of the labels has not seen writes nowhere."""
    net, labels = network([4, 3], **SOFTMAX), np.zeros(20, np.int64)

    def spoil(net, history):
        labels[...] = 10**9

    net.train(np.ones((20, 4)), labels, optimizer=fastmlp.SGD(0.1), epochs=2, callbacks=[spoil])
    assert all(np.isfinite(W).all() for W in net.weights)


# divergence


@pytest.fixture
def short_slices(monkeypatch):
    """Slices of one chunk; the list holds how many chunks were done after each."""
    done, run = [], Epochs.run

    def recorded(epochs, last):
        run(epochs, last)
        done.append(epochs.done)

    monkeypatch.setattr(backend, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr(Epochs, "run", recorded)
    return done


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [fastmlp.SGD, lambda rate: fastmlp.SGD(rate, momentum=0.9)], ids=["sgd", "momentum"])
def test_divergence_within_an_epoch(make, dtype, short_slices):
    """Said long before the epoch's end; the weights are those from before it, to the bit, and can be trained on."""
    net = network([4, 7, 3], output="identity", activation="identity", dtype=dtype)
    X, T = data(net, 4000)
    net.train(X, T, optimizer=fastmlp.SGD(0.01), batch_size=100, epochs=1)
    kept = copy.deepcopy(net)
    short_slices.clear()
    with pytest.raises(fastmlp.DivergenceError) as caught:
        net.train(X, T, optimizer=make(1e10), batch_size=10, epochs=3)
    for fragment in ("epoch 1", "learning_rate", "1e+10", "max_gradient_norm", "scaled"):
        assert fragment in str(caught.value)
    assert short_slices[-1] < 100  # of 400 minibatches
    assert same_bits(net, kept)
    net.train(X, T, optimizer=make(0.001), epochs=1)


@pytest.mark.parametrize(
    ("solver", "again"),
    [("sgd", "fit"), ("adam", "fit"), ("gd", "fit"), ("sgd", "partial_fit"), ("adam", "partial_fit")],
)
def test_divergence_of_estimators(solver, again, short_slices):
    """scikit-learn's error, at once; the weights are finite, and training can go on from them."""
    r = np.random.default_rng(0)
    X, y = r.standard_normal((4000, 4)), r.standard_normal(4000)
    estimator = fastmlp.MLPRegressor(
        hidden_layer_sizes=(5,), activation="identity", solver=solver, learning_rate_init=1e300, batch_size=10,
        max_iter=50, random_state=0,
    )  # fmt: skip
    with refused("non-finite", "scaled", "learning_rate_init", "max_gradient_norm"):
        getattr(estimator, again)(X, y)
    assert max(short_slices) <= (100 if solver != "gd" else 16)
    assert all(np.isfinite(a).all() for a in (*estimator.coefs_, *estimator.intercepts_))
    estimator.set_params(learning_rate_init=1e-4)
    if solver != "gd":
        estimator.partial_fit(X, y)
    assert np.isfinite(estimator.predict(X)).all()


def test_divergence_with_early_stopping():
    """An error where no epoch was any good; a warning where the weights of one that was stand."""
    r = np.random.default_rng(0)
    X = r.standard_normal((400, 4))
    y = X @ np.ones(4)
    settings = {"hidden_layer_sizes": (), "solver": "sgd", "momentum": 0, "early_stopping": True, "random_state": 0}
    with refused("non-finite", "learning_rate_init"):
        fastmlp.MLPRegressor(learning_rate_init=1e300, **settings).fit(X, y)
    late = fastmlp.MLPRegressor(learning_rate=lambda epoch: 1e300 if epoch == 3 else 0.01, tol=0, **settings)
    with pytest.warns(RuntimeWarning, match="diverged in epoch 4.*best validation score"):
        late.fit(X, y)
    three = fastmlp.MLPRegressor(learning_rate=lambda epoch: 0.01, tol=0, max_iter=3, **settings)
    with pytest.warns(match="Maximum iterations"):
        three.fit(X, y)
    assert np.array_equal(late.coefs_[0], three.coefs_[0]) and late.n_iter_ == 4


def test_loss_that_overflows_for_a_while():
    """An estimator's loss may overflow float32 in one minibatch; training goes on while the weights are finite."""
    X, y = np.zeros((40, 2), np.float32), np.zeros(40, np.float32)
    y[0] = 1e25
    estimator = fastmlp.MLPRegressor(
        hidden_layer_sizes=(), solver="sgd", learning_rate_init=1e-30, batch_size=1, max_iter=2
    )
    estimator.fit(X, y)
    assert estimator.n_iter_ == 2 and np.isfinite(estimator.intercepts_[0]).all()


# shapes and values


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("constant", [0.0, 3.0, -1e3])
def test_constant_features(constant, dtype):
    net = network([4, 7, 3], activation="tanh", dtype=dtype)
    X, T = data(net, 23)
    X[:, 1:] = constant
    trained = reference.train(lecture(net), X, T, reference.SGD(0.1), 3, 8).net
    net.train(X, T, optimizer=fastmlp.SGD(0.1), batch_size=8, epochs=3, shuffle=False)
    assert_parameters(net, trained, 1e-5 if dtype == "float32" else 1e-12)


def test_no_rows():
    net = network([4, 7, 3])
    for X in (np.empty((0, 4)), np.empty((0, 4), np.uint8), scipy.sparse.csr_array((0, 4))):
        assert net.forward(X).shape == (0, 3)
        assert [a.shape for pair in net.layers(X) for a in pair] == [(0, 7), (0, 7), (0, 3), (0, 3)]
        for use in (net.objective, net.gradients, net.deltas):
            with refused("X", "(0, 4)", "at least one row"):
                use(X, np.empty((0, 3)))
    with refused("X", "(0, 4)"):
        net.train(np.empty((0, 4)), np.empty((0, 3)), optimizer=fastmlp.SGD(0.1))


@pytest.mark.parametrize("m", [1, 7])
def test_one_row_one_class(m):
    """A single example; examples of a single class."""
    net = network([4, 7, 3], dtype="float64", **SOFTMAX)
    X, T = data(net, m)[0], np.full(m, 2)
    trained = reference.train(lecture(net), X, np.eye(3)[T], reference.SGD(0.1), 5, 200).net
    net.train(X, T, optimizer=fastmlp.SGD(0.1), epochs=5, shuffle=False)
    assert_parameters(net, trained, 1e-12)
    classifier = fastmlp.MLPClassifier((3,), max_iter=2).fit(X, np.full(m, "one"))
    assert set(classifier.predict(X)) == {"one"}


def test_batch_larger_than_the_data():
    nets = [network([4, 7, 3]) for _ in range(3)]
    X, T = data(nets[0], 53)
    for net, batch_size in zip(nets, (53, 54, 10**12)):
        net.train(X, T, optimizer=fastmlp.Adam(0.01), batch_size=batch_size, epochs=2)
    assert same_bits(*nets)


@pytest.mark.parametrize("sizes", [[20000, 1], [1, 20000], [1, 1, 1, 1], [1, 20000, 1], [5, *[3] * 58, 2]])
def test_extreme_shapes_train(sizes):
    """Widths 1 and 20,000, and 60 layers; the last minibatch is smaller."""
    net = network(sizes, activation="tanh", output="identity", dtype="float64")
    X, T = data(net, 5)
    trained = reference.train(lecture(net), X, T, reference.SGD(0.01), 1, 3).net
    net.train(X, T, optimizer=fastmlp.SGD(0.01), batch_size=3, epochs=1, shuffle=False)
    assert_parameters(net, trained, 1e-12)


@pytest.mark.parametrize("n", [2**62, 10**400, np.inf, np.nan, np.ma.masked])
def test_sizes_beyond_any_memory(n):
    for sizes in ([3, n], [n, 2, 1], [2**40, 2**40, 1]):
        with refused("sizes", "allowed"):
            fastmlp.Network(sizes)


# arrays


def test_integers_beyond_float64():
    net, huge = network([2, 1]), np.array([[10**400, 1]] * 3, object)
    for use in (net.forward, lambda X: net.objective(X, [1, 2, 3])):
        with refused("X", "object"):
            use(huge)
    for use in (lambda y: fastmlp.MLPRegressor().fit(np.ones((3, 1)), y), lambda y: fastmlp.MLPRegressor().fit(y, y)):
        with refused("X or y", "float64"):
            use(huge)
    for weight in (10**400, [1, 2, 10**400]):
        with refused("float64"):
            fastmlp.MLPRegressor(max_iter=1).fit(np.ones((3, 1)), np.arange(3.0), sample_weight=weight)


def test_class_weight_that_is_no_number():
    with refused("class_weight", "finite"):
        fastmlp.MLPClassifier(class_weight={0: np.nan}).fit(np.ones((4, 1)), [0, 1, 0, 1])


def test_masked_records():
    with refused("X", "void"):
        network([2, 1]).forward(np.ma.zeros((3, 2), "i4,f4"))


def test_sparse_targets():
    with refused("T", "sparse", "dense"):
        network([2, 1]).objective(np.ones((3, 2)), scipy.sparse.csr_array(np.ones((3, 1))))


BROKEN = {
    "column beyond": ("indices", 0, 10**6),
    "column before": ("indices", -1, -1),
    "row beyond": ("indptr", -1, 10**6),
    "row before": ("indptr", 0, -1),
    "rows out of order": ("indptr", 1, 10**6),
}


@pytest.mark.parametrize("make", [scipy.sparse.csr_array, scipy.sparse.csc_array])
@pytest.mark.parametrize("dtype", ["float32", "longdouble"])
@pytest.mark.parametrize("case", BROKEN)
def test_broken_sparse(case, dtype, make):
    """Tables that point beyond what is stored are refused before SciPy or a kernel follows them."""
    table, place, value = BROKEN[case]
    X, y = np.ones((9, 4)), np.arange(9.0)
    regressor = fastmlp.MLPRegressor(max_iter=1).fit(X, y)
    broken = make(X.astype(dtype))
    getattr(broken, table)[place] = value
    net = network([4, 1])
    uses = [net.forward, net.layers, lambda X: net.objective(X, y), lambda X: net.train(X, y, optimizer=fastmlp.Adam())]
    uses += [regressor.predict, lambda X: regressor.fit(X, y), lambda X: regressor.partial_fit(X, y)]
    for use in uses:
        with refused("X", "sparse"):
            use(broken)


@pytest.mark.parametrize("use", ["forward", "train", "fit", "predict"])
def test_broken_sparse_without_entries(use):
    """SciPy's own check takes a table that ends in 0 for one of a matrix of zeros, and looks no further."""
    X, y = scipy.sparse.csr_array((2, 4)), np.arange(2.0)
    X.indptr[1] = 10**6
    net, regressor = network([4, 1]), fastmlp.MLPRegressor(max_iter=1).fit(np.ones((2, 4)), y)
    more = {"train": (y,), "fit": (y,)}.get(use, ())
    with refused("X", "sparse", "indptr"):
        if use == "train":
            net.train(X, y, optimizer=fastmlp.Adam())
        else:
            getattr(net if use == "forward" else regressor, use)(X, *more)


def test_sparse_of_one_dimension():
    y = scipy.sparse.csr_array(scipy.sparse.coo_array(np.ones(4, int)))
    with refused("y", "(4,)", "two dimensions"):
        fastmlp.MLPClassifier().partial_fit(np.ones((4, 2)), y, classes=[0, 1])
    with refused("X", "(4,)", "two dimensions"):
        network([4, 1]).forward(y)


def test_broken_sparse_labels():
    y = scipy.sparse.csr_array(np.eye(4, dtype=int))
    y.indices[0] = 10**6
    classifier, X = fastmlp.MLPClassifier(), np.ones((4, 2))
    for fit in (lambda: classifier.fit(X, y), lambda: classifier.partial_fit(X, y, classes=[0, 1, 2, 3])):
        with refused("y", "sparse"):
            fit()


@pytest.mark.parametrize("setting", ["alpha", "l2", "learning_rate_init", "power_t", "epsilon", "hidden_layer_sizes"])
def test_settings_beyond_64_bits(setting):
    with refused(setting, "64 bits"):
        fastmlp.MLPRegressor(**{setting: 10**400}).fit(np.ones((4, 2)), np.arange(4.0))


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i2"])
def test_frames_of_foreign_numbers(dtype):
    r = np.random.default_rng(0)
    X, y = r.integers(-3, 4, (300, 3)), r.standard_normal(300)
    ours, plain = (fastmlp.MLPRegressor((5,), max_iter=2, random_state=0) for _ in range(2))
    ours.set_params(hidden_layer_sizes=(5,), loss="squared_error")
    plain.set_params(hidden_layer_sizes=(5,), loss="squared_error")
    foreign = pandas.DataFrame(X.astype(dtype))
    ours.fit(foreign, y)
    plain.fit(X.astype(np.dtype(dtype).newbyteorder("=")), y)
    assert np.array_equal(ours.predict(foreign), plain.predict(foreign.to_numpy().astype(ours.coefs_[0].dtype)))


@pytest.mark.parametrize("rows", [1, 5, 300])
def test_unaligned_rows(rows):
    """Rows an odd number of bytes apart, from the last to the first."""
    r = np.random.default_rng(0)
    raw = np.zeros((rows, 13), np.uint8)
    X = raw[:, :-1].view(np.float32)[::-1]
    X[...] = r.standard_normal((rows, 3))
    net = network([3, 5, 2])
    assert np.array_equal(net.forward(X), net.forward(X.copy()))
    regressor = fastmlp.MLPRegressor(hidden_layer_sizes=(5,), max_iter=1).fit(np.ones((9, 3), np.float32), np.arange(9))
    assert np.array_equal(regressor.predict(X), regressor.predict(X.copy()))


# estimators whose fit was refused


@pytest.mark.parametrize("kind", [fastmlp.MLPClassifier, fastmlp.MLPRegressor])
def test_refused_fit_is_no_fit(kind):
    """Predicting after a fit that was refused says that there was none, whatever the fit had looked at."""
    X, y = np.ones((4, 2)), [0, 1, 0, 1]
    refusals = [
        lambda estimator: estimator.fit(X, y, sample_weight=[1.0]),
        lambda estimator: estimator.set_params(hidden_layer_sizes=(2**40, 2**40)).fit(X, y),
        lambda estimator: estimator.partial_fit(X, y[:3], **classes),
    ]
    classes = {"classes": [0, 1]} if kind is fastmlp.MLPClassifier else {}
    for refusal in refusals:
        estimator = kind()
        with pytest.raises((ValueError, MemoryError)):
            refusal(estimator)
        for name in ("predict", "predict_proba") if kind is fastmlp.MLPClassifier else ("predict",):
            with pytest.raises(NotFittedError):
                getattr(estimator, name)(X)
        with pytest.raises(NotFittedError):
            estimator.jit_predict_  # noqa: B018


@pytest.mark.parametrize("kind", [fastmlp.MLPClassifier, fastmlp.MLPRegressor])
def test_refused_fit_leaves_the_fit_before(kind):
    """Classes, features and weights go on belonging together; the prediction of few rows has its weights prepared."""
    r = np.random.default_rng(0)
    X, y = r.standard_normal((30, 3)), np.arange(30) % 3
    estimator = kind(hidden_layer_sizes=(5,), max_iter=2, random_state=0).fit(X, y)
    expected = estimator.predict(X), estimator.predict(np.tile(X, (20, 1)))
    wide = r.standard_normal((30, 17))
    refusals = [
        lambda: estimator.fit(wide, y[::-1] % 2, sample_weight=[1.0]),
        lambda: estimator.fit(wide, y % 2, eval_set=3),
        lambda: estimator.fit(wide, y % 2, eval_set=(X, y)),
        lambda: estimator.fit(np.full((2, 1), np.nan), [7, 8]),
        lambda: estimator.partial_fit(wide, y),
        lambda: estimator.partial_fit(X, y[:5]),
    ]
    for refusal in refusals:
        with pytest.raises(ValueError):
            refusal()
        with refused("features"):
            estimator.predict(wide)
        assert np.array_equal(estimator.predict(X), expected[0])
        assert np.array_equal(estimator.predict(np.tile(X, (20, 1))), expected[1])


def test_no_labels():
    with refused("y", "(0, 3)"):
        fastmlp.MLPClassifier().partial_fit(np.ones((0, 2)), np.ones((0, 3), int), classes=[0, 1])
