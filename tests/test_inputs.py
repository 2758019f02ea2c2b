"""What X, T and sample_weight may be, and what is refused by name before anything is changed (contract 3)."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse
from cases import DTYPES, network, refused, same_bits

import fastmlp

INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
REAL = ("float16", "float32", "float64", "bool", *INTEGERS)
M = 53


def plain(dtype="float32", m=M, n=4):
    """A matrix that holds the same values in any dtype wide enough: 0 and 1 for bool, else small multiples."""
    r, dtype = np.random.default_rng(0), np.dtype(dtype)
    if dtype.kind == "f":
        return (r.integers(-20, 21, (m, n)) / 8).astype(dtype)
    return r.integers(-10 if dtype.kind == "i" else 0, 2 if dtype.kind == "b" else 11, (m, n)).astype(dtype)


def targets(n_out=3):
    return np.random.default_rng(1).random((M, n_out)).astype(np.float32)


def unaligned(X):
    """The same matrix at an odd address."""
    raw = np.empty(X.nbytes + 1, np.uint8)
    view = raw[1:].view(X.dtype).reshape(X.shape)
    view[...] = X
    assert view.ctypes.data % 2
    return view


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


def memory_mapped(X, folder, mode):
    X.tofile(folder / "X")
    return np.memmap(folder / "X", X.dtype, mode, shape=X.shape)


def unsorted_csr(X):
    """A CSR matrix with column indices in descending order and every entry stored in two halves."""
    m, n = X.shape
    indices = np.tile(np.arange(2 * n)[::-1] // 2, m)
    values = np.repeat(X[:, ::-1] / 2, 2, axis=1).ravel()
    return scipy.sparse.csr_matrix((values, indices, np.arange(0, 2 * m * n + 1, 2 * n)), shape=X.shape)


FORMS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "read-only": read_only,
    "unaligned": unaligned,
    "every second row": lambda X: np.repeat(X, 2, 0)[::2],
    "every second column": lambda X: np.repeat(X, 2, 1)[:, ::2],
    "reversed": lambda X: X[::-1].copy()[::-1],
    "columns reversed": lambda X: X[:, ::-1].copy()[:, ::-1],
    "part of a larger one": lambda X: np.pad(X, 3)[3:-3, 3:-3],
    "list": lambda X: X.tolist(),
    "tuple of arrays": tuple,
    "matrix of objects": lambda X: X.astype(object),
}
SPARSE = {
    "csr_matrix": scipy.sparse.csr_matrix,
    "csr_array": scipy.sparse.csr_array,
    "csc_matrix": scipy.sparse.csc_matrix,
    "csc_array": scipy.sparse.csc_array,
}


def results(X, T, dtype="float32", **settings):
    """Everything a network makes of X and T, training (shuffled, ragged) last."""
    net = network([X.shape[1] if hasattr(X, "shape") else len(X[0]), 7, 3], dtype=dtype, **settings)
    dW, db = net.gradients(X, T)
    numbers = [net.forward(X), *(a for pair in net.layers(X) for a in pair), *net.deltas(X, T), *dW, *db]
    history = net.train(X, T, optimizer=fastmlp.SGD(0.01, momentum=0.5), batch_size=8, epochs=2, validation=(X, T))
    net.train(X, T, optimizer=fastmlp.GradientDescent(0.01), epochs=1)
    numbers += [np.array([net.objective(X, T), *history.objective, *history.validation]), *net.weights, *net.biases]
    return numbers


def assert_same(found, expected):
    """Bit for bit: the conversions are exact, and what X is made of reaches no kernel but the gather."""
    assert all(np.array_equal(f, e) for f, e in zip(found, expected, strict=True))


# accepted


@pytest.mark.parametrize("net_dtype", DTYPES)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", REAL)
def test_dtypes(dtype, order, net_dtype):
    X, T = plain(dtype), targets()
    assert_same(results(np.array(X, order=order), T, net_dtype), results(X.astype(net_dtype), T, net_dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8", "int64"])
@pytest.mark.parametrize("form", FORMS)
def test_forms(form, dtype):
    X = plain(dtype)
    assert_same(results(FORMS[form](X), targets()), results(X.astype("float32"), targets()))


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int32"])
@pytest.mark.parametrize("form", SPARSE)
def test_sparse(form, dtype):
    X = plain(dtype)
    assert_same(results(SPARSE[form](X), targets()), results(X.astype("float32"), targets()))


def test_sparse_oddities():
    """Unsorted and repeated indices, 64-bit indices, empty rows, nothing stored at all."""
    X = plain()
    X[[0, 7, M - 1]] = 0
    wide = scipy.sparse.csr_matrix(X)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    for sparse in (unsorted_csr(X), wide):
        stored = sparse.indices.copy()
        assert_same(results(sparse, targets()), results(X, targets()))
        assert np.array_equal(sparse.indices, stored)
    assert_same(results(scipy.sparse.csr_matrix(X.shape), targets()), results(np.zeros_like(X), targets()))


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_memory_map(dtype, mode, tmp_path):
    X = plain(dtype)
    assert_same(results(memory_mapped(X, tmp_path, mode), targets()), results(X.astype("float32"), targets()))


def test_frame():
    pandas = pytest.importorskip("pandas")
    X = plain()
    frame = pandas.DataFrame(X, columns=list("abcd"))
    assert_same(results(frame, pandas.DataFrame(targets())), results(X, targets()))


@pytest.mark.parametrize("net_dtype", DTYPES)
@pytest.mark.parametrize("dtype", REAL)
def test_conversion_is_exact(dtype, net_dtype):
    """Every float16, and the ends of every other type, become what NumPy makes of them."""
    if dtype == "float16":
        every = np.arange(2**16, dtype=np.uint16).view(np.float16)
        X = every[np.isfinite(every)]
    elif dtype == "bool":
        X = np.array([False, True])
    elif "int" in dtype:
        info = np.iinfo(dtype)
        X = np.array([info.min, info.min + 1, 0, 1, info.max // 3, info.max - 1, info.max], dtype)
    else:
        X = np.array([0, 1e-30, 1 / 3, -np.pi, 16777217, 3e38], dtype)
    net = fastmlp.Network([1, 1], output="identity", dtype=net_dtype)
    net.weights, net.biases = [np.ones((1, 1))], [np.zeros(1)]
    assert np.array_equal(net.forward(X[:, None])[:, 0], X.astype(net_dtype))


@pytest.mark.parametrize("make", [lambda X: X, np.asfortranarray, lambda X: X[::-1]], ids=["C", "Fortran", "reversed"])
@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_never_copied_whole(dtype, make):
    """What NumPy allocates while predicting and training stays far below the size of X."""
    X = make(np.ones((20000, 500), dtype))
    T, out = np.zeros((20000, 1), np.float32), np.empty((20000, 1), np.float32)
    net = network([500, 3, 1])
    warm = X[:300]
    for data, target in ((warm, T[:300]), (X, T)):
        tracemalloc.start()
        net.forward(data, out=out[: len(data)])
        net.objective(data, target)
        net.gradients(data, target)
        net.train(data, target, optimizer=fastmlp.SGD(1e-3), epochs=1)
        net.train(data, target, optimizer=fastmlp.GradientDescent(1e-3), epochs=1)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < X.nbytes / 2


@pytest.mark.parametrize("dtype", REAL)
def test_target_dtypes(dtype):
    T = plain(dtype, n=3)
    expected = results(plain(), T.astype("float32"))
    assert_same(results(plain(), T), expected)
    assert_same(results(plain(), np.asfortranarray(T)), expected)
    assert_same(results(plain(), np.repeat(T, 2, 1)[::1, ::2]), expected)
    assert_same(results(plain(), T.tolist()), expected)


@pytest.mark.parametrize("dtype", [*REAL[:3], "bool", "int64"])
def test_one_column_of_targets(dtype):
    """With one output T is (m, 1) or (m,), of any dtype."""
    column = (targets(1) > 0.5).astype(dtype)
    nets = [network([4, 5, 1], output="logistic", loss="log_loss") for _ in range(3)]
    forms = (column.astype("float32"), column[:, 0], column[:, 0].tolist())
    for net, T in zip(nets, forms, strict=True):
        net.train(plain(), T, optimizer=fastmlp.SGD(0.1), batch_size=8, epochs=2)
        assert net.objective(plain(), T) == net.objective(plain(), column)
        assert np.array_equal(net.deltas(plain(), T)[0], net.deltas(plain(), column)[0])
    assert same_bits(*nets)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_labels(dtype):
    """With softmax, T may be the integer labels (m,): the same bits as their one-hot rows."""
    labels = np.random.default_rng(2).integers(0, 3, M).astype(dtype)
    one_hot, softmax = np.eye(3, dtype=np.float32)[labels], {"output": "softmax", "loss": "log_loss"}
    expected = results(plain(), one_hot, **softmax)
    assert_same(results(plain(), labels, **softmax), expected)
    assert_same(results(plain(), labels.tolist(), **softmax), expected)
    assert_same(results(plain(), np.repeat(labels, 2)[::2], **softmax), expected)


@pytest.mark.parametrize("form", [lambda w: w, list, lambda w: np.repeat(w, 2)[::2], lambda w: w.astype("float64")])
def test_sample_weight_forms(form):
    weight = (np.arange(M) % 5).astype("float32") + 1
    nets = [network([4, 7, 3]) for _ in range(2)]
    for net, w in zip(nets, (weight, form(weight)), strict=True):
        net.train(plain(), targets(), optimizer=fastmlp.SGD(0.1), batch_size=8, epochs=2, sample_weight=w)
    assert same_bits(*nets)


# refused

NET = {"output": "identity"}
LOGISTIC = {"output": "logistic", "loss": "log_loss"}
SOFTMAX = {"output": "softmax", "loss": "log_loss"}


def spoiled(array, value, index=(11, 2)):
    """A copy with one value put in its middle."""
    array = np.array(array)
    array[index] = value
    return array


def nonfinite_sparse(value):
    X = scipy.sparse.csr_matrix(plain())
    X.data[len(X.data) // 2] = value
    return X


X_REFUSED = {
    "width": (plain()[:, :3], ("(53, 3)", "4")),
    "1-d": (plain()[:, 0], ("(53,)", "4")),
    "3-d": (plain()[None], ("(1, 53, 4)",)),
    "scalar": (3.0, ()),
    "sparse width": (scipy.sparse.csr_matrix(plain()[:, :3]), ("(53, 3)", "4")),
    "complex": (plain() + 1j, ("complex",)),
    "strings": (plain().astype(str), ("str",)),
    "ragged": ([[1.0, 2.0, 3.0, 4.0], [1.0]], ()),
    "None": (None, ("none",)),
    "overflow": (spoiled(plain("float64"), 1e300), ("1e+300", "float32")),
    **{
        f"{value} {dtype}": (spoiled(plain(dtype), value), (str(value),))
        for value in (np.nan, np.inf, -np.inf)
        for dtype in REAL[:3]
    },
    "nan first": (spoiled(plain(), np.nan, (0, 0)), ("nan",)),
    "nan last": (spoiled(plain(), np.nan, (M - 1, 3)), ("nan",)),
    "nan Fortran": (np.asfortranarray(spoiled(plain(), np.nan)), ("nan",)),
    "nan reversed": (spoiled(plain(), np.nan)[::-1], ("nan",)),
    "nan sparse": (nonfinite_sparse(np.nan), ("nan",)),
    "inf sparse": (nonfinite_sparse(np.inf), ("inf",)),
    "nan list": (spoiled(plain(), np.nan).tolist(), ("nan",)),
}
T_REFUSED = {
    "rows": (NET, targets()[:5], ("(5, 3)", "53")),
    "columns": (NET, targets(2), ("(53, 2)", "3")),
    "1-d": (NET, targets()[:, 0], ("(53,)", "3")),
    "3-d": (NET, targets()[None], ("(1, 53, 3)",)),
    "complex": (NET, targets() + 1j, ("complex",)),
    "strings": (NET, targets().astype(str), ("str",)),
    "None": (NET, None, ("none",)),
    "nan": (NET, spoiled(targets(), np.nan), ("nan",)),
    "inf": (NET, spoiled(targets(), -np.inf), ("inf",)),
    "overflow": (NET, spoiled(targets().astype("float64"), 1e300), ("1e+300", "float32")),
    "above 1": (LOGISTIC, spoiled(targets(), 1.5), ("1.5", "[0, 1]")),
    "below 0": (LOGISTIC, spoiled(targets(), -0.5), ("-0.5", "[0, 1]")),
    "softmax above 1": (SOFTMAX, spoiled(np.eye(3)[[0] * M], [1.5, 0, -0.5], 11), ("[0, 1]",)),
    "softmax sum": (SOFTMAX, spoiled(np.eye(3)[[0] * M], [0.25, 0.25, 0.25], 11), ("0.75", "1")),
    "label above": (SOFTMAX, spoiled(np.zeros(M, int), 3, 11), ("3", "0", "2")),
    "label below": (SOFTMAX, spoiled(np.zeros(M, int), -1, 11), ("-1", "0", "2")),
    "label between": (SOFTMAX, spoiled(np.zeros(M), 0.5, 11), ("0.5", "integer")),
    "label nan": (SOFTMAX, spoiled(np.zeros(M), np.nan, 11), ("nan",)),
    "label rows": (SOFTMAX, np.zeros(M - 1, int), ("52", "53")),
    "label column": (SOFTMAX, np.zeros((M, 1), int), ("(53, 1)", "3")),
    "labels without softmax": (LOGISTIC, np.zeros(M, int), ("(53,)", "3")),
}
TRAININGS = {
    "sgd": {"optimizer": fastmlp.SGD(0.1), "batch_size": 8},
    "descent": {"optimizer": fastmlp.GradientDescent(0.1)},
    "lbfgs": {"optimizer": fastmlp.LBFGS()},
}


@pytest.mark.parametrize("case", X_REFUSED)
def test_bad_examples(case):
    """Each use of X names it, the value found and what is allowed, and changes nothing."""
    X, fragments = X_REFUSED[case]
    net, same = network([4, 7, 3]), network([4, 7, 3])
    for use in (net.forward, net.layers):
        with refused("X", *fragments):
            use(X)
    for use in (net.deltas, net.objective, net.gradients):
        with refused("X", *fragments):
            use(X, targets())
    for training in TRAININGS.values():
        with refused("X", *fragments):
            net.train(X, targets(), epochs=2, **training)
    assert same_bits(net, same)


@pytest.mark.parametrize("case", T_REFUSED)
def test_bad_targets(case):
    """Each use of T names it, the value found and what is allowed, and changes nothing."""
    settings, T, fragments = T_REFUSED[case]
    net, same = network([4, 7, 3], **settings), network([4, 7, 3], **settings)
    for use in (net.deltas, net.objective, net.gradients):
        with refused("T", *fragments):
            use(plain(), T)
    for training in TRAININGS.values():
        with refused("T", *fragments):
            net.train(plain(), T, epochs=2, **training)
    assert same_bits(net, same)


@pytest.mark.parametrize("use", ["objective", "gradients", "train"])
def test_no_examples(use):
    """There is no mean over no examples."""
    net = network([4, 3])
    more = {"optimizer": fastmlp.SGD(0.1)} if use == "train" else {}
    with refused("X", "(0, 4)"):
        getattr(net, use)(np.empty((0, 4)), np.empty((0, 3)), **more)


@pytest.mark.parametrize("use", ["objective", "gradients"])
@pytest.mark.parametrize(
    ("weight", "fragments"),
    [
        (np.ones(52), ("52", "53")),
        (spoiled(np.ones(M), -0.5, 3), ("-0.5",)),
        (spoiled(np.ones(M), np.inf, 3), ("inf",)),
        (np.zeros(M), ("0",)),
    ],
    ids=["rows", "negative", "inf", "zero"],
)
def test_bad_sample_weight(weight, fragments, use):
    with refused("sample_weight", *fragments):
        getattr(network([4, 3]), use)(plain(), targets(), sample_weight=weight)


def test_large_targets_of_float64():
    """What overflows float32 only is welcome in a float64 network."""
    net = network([4, 7, 3], dtype="float64", output="identity")
    assert np.isfinite(net.objective(plain(), spoiled(targets().astype("float64"), 1e100)))
