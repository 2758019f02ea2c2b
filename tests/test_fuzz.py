"""A fuzzer of networks, their files, and estimators: whatever comes in, a right answer or a documented error comes out.

The short run is part of the suite. The long one draws new inputs every time:

    python -m pytest -m fuzz tests/test_fuzz.py
"""

import copy
import decimal
import fractions
import functools
import math
import os
import pathlib
import pickle
import tempfile
import warnings

import numpy as np
import pandas
import pytest
import scipy.sparse
import scipy.special
from cases import OUTPUTS, digest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastmlp

FOLDER = tempfile.TemporaryDirectory()
LONG = int(os.environ.get("FASTMLP_FUZZ_EXAMPLES", 3000))

# ---- inputs ---------------------------------------------------------------------------------------------------------

HOSTILE = [
    *(None, True, 0, -1, 1, 3, 0.5, 2.5, -0.5, math.nan, math.inf, -math.inf, 1e308, 5e-324, 10**400, -(10**400)),
    *("x", "", "0.5", b"x", [], (), {}, [1], [[]], {"x": 1}, 1j, int, len, Ellipsis, object(), 2**63),
    *(np.float16(0.5), np.float32("nan"), np.int8(3), np.uint64(2**63), np.bool_(True), np.complex64(1j), np.str_("x")),
    *(np.array(0.5), np.array([0.5]), np.array([1, 2]), np.array("x"), np.array(None), np.ma.masked, np.empty(0)),
    *(decimal.Decimal("0.5"), decimal.Decimal("nan"), fractions.Fraction(1, 2), np.datetime64("2020"), pandas.NA),
]
HOSTILE = st.sampled_from(HOSTILE)


@st.composite
def or_hostile(draw, strategy, odds=20):
    """What a strategy gives, or once in `odds` times something hostile."""
    return draw(HOSTILE if draw(st.sampled_from([False] * (odds - 1) + [True])) else strategy)


def usually(*values):
    """One of these values, or now and then something hostile."""
    return or_hostile(st.sampled_from(values))


def unaligned(A):
    raw = np.zeros(A.nbytes + 1, np.uint8)[1:].view(A.dtype).reshape(A.shape)
    raw[...] = A
    return raw


def read_only(A):
    A = A.copy()
    A.flags.writeable = False
    return A


def sparse(make, index=np.int32):
    def convert(A):
        A = make(A.reshape(len(A), -1) if A.ndim else A.reshape(1, 1))
        for name in ("indices", "indptr"):
            if hasattr(A, name):
                setattr(A, name, getattr(A, name).astype(index))
        return A

    return convert


def broken(name, place, value):
    """A CSR matrix with one wrong number in its tables."""

    def convert(A):
        A = sparse(scipy.sparse.csr_array)(A)
        table = getattr(A, name)
        if len(table):
            table[place % len(table)] = value
        return A

    return convert


def short(name):
    def convert(A):
        A = sparse(scipy.sparse.csr_array)(A)
        setattr(A, name, getattr(A, name)[:-1])
        return A

    return convert


def masked(A):
    return np.ma.array(A, mask=np.arange(A.size).reshape(A.shape) == A.size // 2)


class Always:
    """A learning rate that is asked for."""

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, epoch):
        return self.rate


class Subclass(np.ndarray):
    """An array that is not quite one."""


GOOD_FORMS = {
    "C": lambda A: A,
    "Fortran": np.asfortranarray,
    "reversed": lambda A: A[::-1].copy()[::-1],
    "columns reversed": lambda A: A[..., ::-1].copy()[..., ::-1],
    "every second": lambda A: np.repeat(A, 2, -1)[..., ::2],
    "broadcast": lambda A: np.broadcast_to(A[:1], A.shape),
    "unaligned": unaligned,
    "read-only": read_only,
    "list": lambda A: A.tolist(),
    "tuple": tuple,
    "list of arrays": list,
    "objects": lambda A: A.astype(object),
    "not masked": np.ma.array,
    "matrix": lambda A: np.matrix(A) if A.ndim == 2 else A,
    "subclass": lambda A: A.view(Subclass),
    "frame": pandas.DataFrame,
    "memory": memoryview,
    "csr": sparse(scipy.sparse.csr_array),
    "csr 64": sparse(scipy.sparse.csr_matrix, np.int64),
    "csc": sparse(scipy.sparse.csc_array),
}
BAD_FORMS = {
    "masked": masked,
    "3-d": lambda A: A[None],
    "flat": np.ravel,
    "0-d": lambda A: A.ravel()[0] if A.size else 0.0,
    "coo": sparse(scipy.sparse.coo_array),
    "dok": sparse(scipy.sparse.dok_array),
    "1-d csr": lambda A: scipy.sparse.csr_array(scipy.sparse.coo_array(A.ravel())),
    "ragged": lambda A: [row[: 1 + k % 2] for k, row in enumerate(A.tolist())] if A.ndim > 1 else A,
    "column beyond": broken("indices", 0, 10**6),
    "column before": broken("indices", -1, -1),
    "row beyond": broken("indptr", -1, 10**6),
    "row before": broken("indptr", 0, -1),
    "rows out of order": broken("indptr", 1, 10**6),
    "short indices": short("indices"),
    "short data": short("data"),
    "short indptr": short("indptr"),
    "list of None": lambda A: [None] * len(A) if A.ndim else None,
    "list of texts": lambda A: A.astype(str).tolist(),
    "iterator": iter,
    "dictionary": lambda A: {"x": A},
}
GOOD_DTYPES = tuple("float32 float64 float16 bool int8 int32 int64 uint8 uint16 uint64 >f4 >i2".split())
BAD_DTYPES = tuple("longdouble complex64 O U3 S3 M8[s] m8[s] i4,f4 V4".split())
SPOILS = (math.nan, math.inf, -math.inf, 1e300, -1e300, 1e38, 7e4, -1.0, 1e-320)


@st.composite
def arrays(draw, shape, numbers=(0, 1)):
    """An array-like of a shape, of small whole numbers, in any form and dtype; now and then a wrong one."""
    good = draw(st.sampled_from([True] * 8 + [False]))
    slip = 0 if good else draw(st.sampled_from([0, 0, 0, 1, -1]))
    axis = draw(st.integers(0, len(shape) - 1)) if slip else 0
    shape = tuple(max(0, n + slip * (k == axis)) for k, n in enumerate(shape))
    seed = draw(st.integers(0, 9))
    values = np.random.default_rng(seed).integers(numbers[0], numbers[-1] + 1, shape)
    dtype = draw(st.sampled_from(GOOD_DTYPES if good else GOOD_DTYPES + BAD_DTYPES))
    form = draw(st.sampled_from(list(GOOD_FORMS) if good else [*GOOD_FORMS, *BAD_FORMS]))
    spoil = None if good else draw(st.sampled_from([None, *SPOILS]))
    try:
        A = values.astype(dtype)
        if spoil is not None and A.size and A.dtype.kind == "f":
            with np.errstate(all="ignore"):
                A.flat[draw(st.integers(0, A.size - 1))] = spoil
        return {**GOOD_FORMS, **BAD_FORMS}[form](A)
    except (ValueError, TypeError, IndexError, NotImplementedError):
        return values  # NumPy, SciPy or pandas have no such thing


# ---- what must hold -------------------------------------------------------------------------------------------------


def attempt(call, *documented):
    """(result, None), or (None, error) when the error is one that is documented; others fail the test."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return call(), None
        except (ValueError, *documented) as error:
            assert str(error).strip()
            return None, error


def dense(X):
    """X as float64, as NumPy sees it."""
    return np.asarray(X.toarray() if scipy.sparse.issparse(X) else X, np.float64)


F = {
    "identity": lambda z: z,
    "logistic": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "softplus": lambda z: np.logaddexp(z, 0),
    "softmax": lambda z: scipy.special.softmax(z, axis=1),
}


def expected(net, X):
    """Eq. 7 in NumPy."""
    a = dense(X)
    for l, (W, b) in enumerate(zip(net.weights, net.biases)):
        a = F[net.output if l == len(net.weights) - 1 else net.activation](a @ W.astype(float) + b)
    return a


def finite(net):
    return all(np.isfinite(p).all() for p in (*net.weights, *net.biases))


def assert_like(arrays_found, shapes, dtype):
    assert [a.shape for a in arrays_found] == list(shapes)
    assert all(a.dtype == dtype for a in arrays_found)


# ---- Network --------------------------------------------------------------------------------------------------------

WIDTHS = (1, 2, 3, 5, 17, 33)
NAMES = ("identity", "logistic", "tanh", "relu", "softplus")


@st.composite
def networks(draw):
    """A network, or the error that refused its settings."""
    widths = st.lists(st.sampled_from(WIDTHS), min_size=2, max_size=4)
    sizes = draw(or_hostile(widths))
    if draw(st.sampled_from([False] * 20 + [True])):
        sizes = draw(st.lists(or_hostile(st.sampled_from([*WIDTHS, 2**62, 2.0]), 3), max_size=4))
    settings_ = {}
    allowed = {
        "activation": NAMES,
        "dtype": ("float32", "float64", np.float64),
        "l2": (0.0, 0.1, 1),
        "dropout": (0.0, 0.5, 0.999),
        "init": ("small", "glorot", "he"),
        "precision": ("float32", "bf16", "tf32"),
        "random_state": (0, np.random.RandomState(0), np.random.default_rng(0), None),
    }
    for name, values in allowed.items():
        if draw(st.sampled_from([False, False, False, True])):
            settings_[name] = copy.deepcopy(draw(usually(*values)))
    settings_["output"], settings_["loss"] = draw(st.sampled_from(OUTPUTS))
    if draw(st.sampled_from([False] * 20 + [True])):
        settings_[draw(st.sampled_from(["output", "loss", "device"]))] = draw(HOSTILE)
    return attempt(lambda: fastmlp.Network(sizes, **settings_), MemoryError)[0]


@st.composite
def optimizers(draw):
    """An optimizer; None when its settings were refused."""
    number = usually(0.0, 0.1, 1e-3, 0.5, 1, 1e10, 1e300)
    name = draw(st.sampled_from(["GradientDescent", "SGD", "Adam", "LBFGS"]))
    options = {
        "GradientDescent": {},
        "SGD": {"momentum": usually(0.0, 0.5, 0.999), "nesterov": usually(True, False)},
        "Adam": {"beta_1": usually(0.0, 0.9), "beta_2": usually(0.0, 0.999), "epsilon": usually(1e-8, 1e-300, 1.0)},
        "LBFGS": {
            "memory": usually(1, 10),
            "max_evaluations": usually(1, 20),
            "gradient_tolerance": usually(0.0, 1e-5),
            "objective_tolerance": usually(0.0, 1e-9),
        },
    }[name]
    if name != "LBFGS":
        options["learning_rate"] = st.one_of(number, number.map(Always))
    if name in ("SGD", "Adam"):
        options |= {"weight_decay": usually(0.0, 0.1), "max_gradient_norm": usually(None, 1.0, 1e-300)}
    chosen = {k: draw(v) for k, v in options.items() if k == "learning_rate" or draw(st.integers(0, 3)) == 0}
    return attempt(lambda: getattr(fastmlp, name)(**chosen))[0]


@st.composite
def targets(draw, net, m):
    if net.output == "softmax":
        if draw(st.booleans()):
            return draw(or_hostile(arrays((m,), (0, net.sizes[-1] - 1))))
        return np.eye(net.sizes[-1], dtype=draw(st.sampled_from(GOOD_DTYPES[:3])))[np.arange(m) % net.sizes[-1]]
    shape = (m,) if net.sizes[-1] == 1 and draw(st.booleans()) else (m, net.sizes[-1])
    return draw(or_hostile(arrays(shape)))


@st.composite
def training(draw, net, m):
    """Arguments of train but for X, T and optimizer."""
    columns = net.sizes[0]
    options = {
        "batch_size": usually(None, 1, 3, 8, 300, 10**9),
        "epochs": st.sampled_from([0, 1, 2, 3, np.int64(1)] * 5 + [-1, 1.5, None, "2", True, math.nan, [1]]),
        "shuffle": usually(True, False),
        "tol": usually(None, 0.0, 1e-3, 1e308),
        "sample_weight": or_hostile(st.one_of(st.none(), arrays((m,), (0, 3)))),
        "validation": or_hostile(st.tuples(or_hostile(arrays((4, columns))), targets(net, 4))),
        "patience": usually(None, 1, 2),
        "callbacks": usually((), [lambda n, h: None], [lambda n, h: True], (lambda n, h: np.array([1, 2]),)),
        "progress": st.sampled_from([False, 0, None, ""]),
        "window": usually(None, 1, 3, 8, 300, 10**9),
        "checkpoint": st.sampled_from([None, f"{FOLDER.name}/a", pathlib.Path(FOLDER.name), "/no/x", 3]),
        "checkpoint_every": usually(1, 2, 10**9),
    }
    return {name: draw(option) for name, option in options.items() if draw(st.sampled_from([False] * 3 + [True]))}


METHODS = ("forward", "out", "layers", "deltas", "objective", "gradients", "train", "chunks", "assign")


def in_chunks(draw, X, T):
    """X and T as a sequence of chunks, one of them wrong now and then."""
    # SciPy follows the tables of a broken matrix when it is cut
    whole = all(hasattr(a, "shape") and len(a.shape) > 0 and not scipy.sparse.issparse(a) for a in (X, T))
    cut = draw(st.sampled_from([0, 1, 5]))
    chunks = [(X[:cut], T[:cut]), (X[cut:], T[cut:])] if whole else [(X, T)]
    hostile, wrong = draw(HOSTILE), draw(st.sampled_from([None] * 8 + ["all", "one"]))
    return hostile if wrong == "all" else [*chunks, hostile] if wrong == "one" else chunks


def pickled(net):
    return pickle.loads(pickle.dumps(net))


def saved(net):
    """The network from a file."""
    fastmlp.save(net, f"{FOLDER.name}/net")
    return fastmlp.load(f"{FOLDER.name}/net")


def use(data, net):
    """One call of a method of a network, and what must hold after it."""
    m = data.draw(st.sampled_from([0, 1, 1, 2, 7, 9, 30, 30]))
    X = data.draw(or_hostile(arrays((m, net.sizes[0]), (-2, 2))))
    before, real, out_of = digest(net), np.dtype(net.dtype), net.sizes[1:]
    method = data.draw(st.sampled_from(METHODS))
    T = data.draw(targets(net, m))
    changes = False
    if method in ("forward", "out"):
        more = {"out": data.draw(or_hostile(arrays((m, out_of[-1]))))} if method == "out" else {}
        h, error = attempt(lambda: net.forward(X, **more))
        if error is None:
            assert_like([h], [(dense(X).shape[0], out_of[-1])], real)
            if np.abs(dense(X)).max(initial=0) < 1e5:  # beyond, float32 may overflow
                assert np.allclose(h, expected(net, X), rtol=1e-3, atol=1e-4)
    elif method == "layers":
        pairs, error = attempt(lambda: net.layers(X))
        if error is None:
            assert_like([a for pair in pairs for a in pair], [(len(dense(X)), n) for n in out_of for _ in "za"], real)
    elif method == "deltas":
        found, error = attempt(lambda: net.deltas(X, T))
        if error is None:
            assert_like(found, [(len(dense(X)), n) for n in out_of], real)
    elif method == "objective":
        weight = data.draw(or_hostile(st.one_of(st.none(), arrays((m,), (0, 3)))))
        J, error = attempt(lambda: net.objective(X, T, weight))
        assert error is not None or isinstance(J, float)
    elif method == "gradients":
        weight = data.draw(or_hostile(st.one_of(st.none(), arrays((m,), (0, 3)))))
        found, error = attempt(lambda: net.gradients(X, T, sample_weight=weight))
        if error is None:
            assert_like([*found[0], *found[1]], [p.shape for p in (*net.weights, *net.biases)], real)
    elif method in ("train", "chunks"):
        optimizer = data.draw(or_hostile(optimizers()))
        more = data.draw(training(net, m))
        given = (X, T) if method == "train" else (in_chunks(data.draw, X, T),)
        history, error = attempt(lambda: net.train(*given, optimizer=optimizer, **more), fastmlp.DivergenceError)
        changes = error is None or isinstance(error, fastmlp.DivergenceError)
        if error is None:
            assert history.n_epochs == len(history.objective) and np.isfinite(history.objective).all()
        # a callable learning rate is asked when an epoch begins: what came before its wrong answer stands
        changes = changes or "learning_rate(" in str(error) or "chunk" in str(error)
    else:
        name = data.draw(st.sampled_from(["weights", "biases"]))
        shapes = [p.shape for p in getattr(net, name)]
        wrong = data.draw(st.sampled_from([False] * 9 + [True]))
        values = data.draw(or_hostile(st.tuples(*(or_hostile(arrays(s, (-1, 1))) for s in shapes[wrong:]))))
        _, error = attempt(lambda: setattr(net, name, values))
        changes = error is None
    assert finite(net)
    assert changes or digest(net) == before


def fuzz_network(data):
    net = data.draw(networks())
    if net is None:
        return
    assert isinstance(repr(net), str) and finite(net)
    for _ in range(data.draw(st.integers(1, 3))):
        use(data, net)
    again = data.draw(st.sampled_from([None, copy.copy, copy.deepcopy, pickled, saved]))
    if again is not None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "learning_rate is a function")
            twin = again(net)
        assert digest(twin) == digest(net)
        use(data, twin)


# ---- estimators -----------------------------------------------------------------------------------------------------


@st.composite
def estimators(draw):
    """A classifier or a regressor, with settings that may be wrong; sklearn checks them when fit is called."""
    options = {
        "activation": usually(*NAMES),
        "solver": usually("adam", "sgd", "lbfgs", "adamw", "gd"),
        "alpha": usually(0.0, 1e-4, 1, 1e300),
        "l2": usually(None, 0.0, 0.1),
        "weight_decay": usually(0.0, 0.1),
        "batch_size": usually("auto", 1, 3, 8, 10**9),
        "learning_rate": usually("constant", "invscaling", "adaptive", "cosine", lambda epoch: 0.1),
        "learning_rate_init": usually(1e-3, 0.1, 1e10, 1e300),
        "power_t": usually(0.5, 0.0, 300.0),
        "shuffle": usually(True, False),
        "random_state": usually(0, np.random.RandomState(0), None),
        "tol": usually(0.0, 1e-4, 1e300),
        "warm_start": usually(True, False),
        "momentum": usually(0.0, 0.9, 1.0),
        "nesterovs_momentum": usually(True, False),
        "early_stopping": usually(True, False),
        "validation_fraction": usually(0.1, 0.5, 0.99, 0.0),
        "beta_1": usually(0.9, 0.0),
        "beta_2": usually(0.999, 0.0),
        "epsilon": usually(1e-8, 1e-300),
        "n_iter_no_change": usually(1, 10, np.inf),
        "max_fun": usually(1, 15000),
        "max_gradient_norm": usually(None, 1.0, 1e-300),
        "dropout": usually(0.0, 0.5),
        "scoring": usually(None, "accuracy", "r2", lambda estimator, X, y: 0.5),
        "init": usually("glorot", "he", "small"),
        "n_threads": usually(None, 1, 2, 100),
        "hidden_layer_sizes": usually((), (3,), (17, 1), [2, 2], 5, np.array([3, 4]), (2.0,), (2**40, 2**40), (True,)),
    }
    classifier = draw(st.booleans())
    if classifier:
        options["class_weight"] = usually(None, "balanced", {0: 1.0, 1: 2.0}, {0: math.nan}, {0: -1.0})
        options["device"] = st.just("cpu")
    else:
        options["loss"] = usually("squared_error", "poisson", "huber", "absolute_error")
    names = draw(st.lists(st.sampled_from(list(options)), max_size=6, unique=True))
    chosen = {name: copy.deepcopy(draw(options[name])) for name in names}
    small = {"hidden_layer_sizes": (5,), "max_iter": draw(st.sampled_from([1, 2, 4]))}
    return (fastmlp.MLPClassifier if classifier else fastmlp.MLPRegressor)(**{**small, **chosen})


@st.composite
def labels(draw, estimator, m):
    """y for an estimator: usually of its kind."""
    if isinstance(estimator, fastmlp.MLPRegressor):
        return draw(or_hostile(st.one_of(arrays((m,), (0, 3)), arrays((m, 2), (0, 3)))))
    names = st.just(np.array(["a", "b", "c"])[np.arange(m) % 3])
    kinds = [arrays((m,), (0, 1)), arrays((m,), (0, 3)), arrays((m, 3), (0, 1)), arrays((m,), (0, 0)), names]
    return draw(or_hostile(st.one_of(kinds)))


def fuzz_estimator(data):
    estimator = data.draw(estimators())
    documented = TypeError, MemoryError  # scikit-learn's validation raises TypeErrors, too
    for _ in range(data.draw(st.integers(1, 3))):
        m, n = data.draw(st.sampled_from([1, 2, 9, 20, 30, 30])), data.draw(st.sampled_from([1, 3, 17]))
        X, y = data.draw(or_hostile(arrays((m, n), (-2, 2)))), data.draw(labels(estimator, m))
        weight = data.draw(or_hostile(st.one_of(st.none(), st.none(), arrays((m,), (0, 3)))))
        if data.draw(st.booleans()):
            more = {"eval_set": (X, y)} if data.draw(st.sampled_from([False] * 4 + [True])) else {}
            fitted, error = attempt(functools.partial(estimator.fit, X, y, weight, **more), *documented)
        else:
            classes = data.draw(or_hostile(st.sampled_from([None, [0, 1], [0, 1, 2, 3], ["a", "b", "c"]])))
            more = {} if isinstance(estimator, fastmlp.MLPRegressor) else {"classes": classes}
            # AttributeError where the solver is not stochastic, as in scikit-learn
            call = functools.partial(getattr, estimator, "partial_fit")
            method, error = attempt(call, AttributeError)
            if error is None:
                fitted, error = attempt(functools.partial(method, X, y, weight, **more), *documented)
        if error is None:
            assert fitted is estimator
            assert all(np.isfinite(a).all() for a in (*estimator.coefs_, *estimator.intercepts_))
            predicts(data, estimator, X, y)
        again = data.draw(st.sampled_from([None, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]))
        if again is not None and not callable(estimator.learning_rate) and not callable(estimator.scoring):
            estimator = again(estimator)
        predicts(data, estimator, data.draw(or_hostile(arrays((m, n), (-2, 2)))), y)


def predicts(data, estimator, X, y):
    """What the methods that change nothing return for X, of which nothing is known."""
    fitted = hasattr(estimator, "coefs_")
    for name in ("predict", "predict_proba", "predict_log_proba", "score"):
        if not hasattr(estimator, name) or (name == "score" and scipy.sparse.issparse(y)):
            continue  # scikit-learn's metrics follow the tables of a sparse y, right or wrong
        more = (y,) if name == "score" else ()
        found, error = attempt(functools.partial(getattr(estimator, name), X, *more), TypeError)
        assert fitted or error is not None
        if error is not None:
            continue
        if name == "score":
            assert isinstance(found, float)
        elif name == "predict":
            outputs = estimator.n_outputs_
            several = outputs > 1 and getattr(estimator, "out_activation_", "") != "softmax"
            assert found.shape == ((len(dense(X)), outputs) if several else (len(dense(X)),))
        else:
            width = estimator.n_outputs_ if estimator.n_outputs_ > 1 else 2
            assert found.shape == (len(dense(X)), width)
            if name == "predict_proba":
                assert ((found >= 0) & (found <= 1)).all() or not np.isfinite(found).all()


# ---- runs -----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of np.matrix
@settings(max_examples=150)
@given(st.data())
def test_network(data):
    fuzz_network(data)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@settings(max_examples=120)
@given(st.data())
def test_estimator(data):
    fuzz_estimator(data)


@pytest.mark.fuzz
@pytest.mark.parametrize("fuzz", [fuzz_network, fuzz_estimator])
def test_long(fuzz):
    settings(max_examples=LONG, derandomize=False, database=None)(given(st.data())(fuzz))()
