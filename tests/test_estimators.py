"""MLPClassifier and MLPRegressor beside scikit-learn's: the same numbers, attributes, warnings and errors."""

import concurrent.futures
import copy
import importlib.util
import pickle
import warnings

import numba
import numpy as np
import pytest
import scipy.sparse
import scipy.special
from cases import run_python
from sklearn import config_context, neural_network
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.exceptions import ConvergenceWarning, NotFittedError, UndefinedMetricWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss, r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import fastmlp
from fastmlp.fitting import accuracy, r_squared

RELATIVE = {"float64": 1e-8, "float32": 2e-4}  # float32: rounding, after some hundred updates


def classes(kind, m=130, n=7, seed=0):
    """X and y: binary, multiclass, strings or multilabel."""
    r = np.random.default_rng(seed)
    X = r.standard_normal((m, n))
    scores = X @ r.standard_normal((n, 4)) + 0.3 * r.standard_normal((m, 4))
    if kind == "multilabel":
        return X, (scores > 0).astype(int)
    if kind == "binary":
        return X, (scores[:, 0] > 0).astype(int)
    y = scores.argmax(axis=1)
    return X, np.array(["ash", "beech", "oak", "yew"])[y] if kind == "strings" else y


def values(kind, m=130, n=7, seed=0):
    """X and y: one output, three, or counts."""
    r = np.random.default_rng(seed)
    X = r.standard_normal((m, n))
    Y = np.tanh(X @ r.standard_normal((n, 3))) + 0.1 * r.standard_normal((m, 3))
    if kind == "counts":
        return X, r.poisson(np.exp(Y[:, 0])).astype(float)
    return X, Y if kind == "outputs" else Y[:, 0]


def fitted(estimator, X, y, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(X, y, **more)


def close(found, expected, tolerance):
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    scale = np.abs(expected).max() if expected.size else 1.0
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * max(scale, 1e-300))


def assert_same(ours, theirs, X, tolerance):
    """Every fitted attribute and every prediction of one estimator against the other's."""
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("loss_curve_", "validation_scores_", "loss_", "best_loss_", "best_validation_score_"):
        assert hasattr(ours, name) == hasattr(theirs, name), name
        if getattr(theirs, name, None) is None:
            assert getattr(ours, name, None) is None, name
        else:
            close(getattr(ours, name), getattr(theirs, name), tolerance)
    for found, expected in zip((*ours.coefs_, *ours.intercepts_), (*theirs.coefs_, *theirs.intercepts_), strict=True):
        close(found, expected, 100 * tolerance)
    if hasattr(theirs, "classes_"):
        assert np.array_equal(ours.classes_, theirs.classes_)
        assert np.array_equal(ours.predict(X), theirs.predict(X))
        close(ours.predict_proba(X), theirs.predict_proba(X), 100 * tolerance)
    else:
        close(ours.predict(X), theirs.predict(X), 100 * tolerance)


OPTIONS = {
    "adam": {},
    "adam-unshuffled": {"shuffle": False, "batch_size": 50},
    "adam-betas": {"beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-4, "learning_rate_init": 0.01, "batch_size": 33},
    "tanh": {"activation": "tanh", "hidden_layer_sizes": (9, 5)},
    "logistic": {"activation": "logistic", "hidden_layer_sizes": (9,), "alpha": 0.5},
    "identity": {"activation": "identity", "hidden_layer_sizes": ()},
    "wide": {"hidden_layer_sizes": (70, 40), "batch_size": 64},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05},
    "sgd-plain": {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.1, "alpha": 0.0},
    "sgd-momentum": {"solver": "sgd", "nesterovs_momentum": False, "learning_rate_init": 0.02, "batch_size": 17},
    "sgd-invscaling": {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.3, "learning_rate_init": 0.3},
    "sgd-adaptive": {
        "solver": "sgd", "learning_rate": "adaptive", "tol": 0.02, "n_iter_no_change": 2, "max_iter": 40,
        "learning_rate_init": 0.1,
    },
    "stops": {"tol": 0.05, "n_iter_no_change": 2, "max_iter": 100},
    "early": {"early_stopping": True, "n_iter_no_change": 3, "max_iter": 60, "learning_rate_init": 0.01},
    "early-adaptive": {
        "early_stopping": True, "validation_fraction": 0.25, "solver": "sgd", "learning_rate": "adaptive",
        "learning_rate_init": 0.2, "n_iter_no_change": 1, "max_iter": 30, "batch_size": 20,
    },
    "batch-one-chunk": {"batch_size": 130},
    "lbfgs": {"solver": "lbfgs", "max_iter": 15},
    "lbfgs-tanh": {"solver": "lbfgs", "activation": "tanh", "hidden_layer_sizes": (6, 4), "alpha": 1.0, "max_iter": 12},
}  # fmt: skip


def pair(kind, **options):
    """Our estimator and scikit-learn's, and data for both."""
    if kind in ("value", "outputs", "counts"):
        options |= {"loss": "poisson"} if kind == "counts" else {}
        name, (X, y) = "MLPRegressor", values(kind)
    else:
        name, (X, y) = "MLPClassifier", classes(kind)
    options = {"hidden_layer_sizes": (11,), "max_iter": 12, "random_state": 5, **options}
    return getattr(fastmlp, name)(**options), getattr(neural_network, name)(**options), X, y


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("kind", ["binary", "multiclass", "strings", "multilabel", "value", "outputs", "counts"])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_same_numbers(kind, option, weighted, dtype):
    """Contract of the estimators: scikit-learn's loss curve, iterations, weights and predictions."""
    ours, theirs, X, y = pair(kind, **OPTIONS[option])
    X = X.astype(dtype)
    more = {"sample_weight": np.random.default_rng(3).uniform(0.2, 2, len(X))} if weighted else {}
    with np.errstate(all="ignore"):
        fitted(ours, X, y, **more), fitted(theirs, X, y, **more)
    if dtype == "float32":
        assert all(c.dtype == np.float32 for c in (*ours.coefs_, *ours.intercepts_))
        if ours.solver == "lbfgs" or ours.n_iter_ != theirs.n_iter_:
            # a comparison may fall the other way; L-BFGS amplifies rounding: float64 is where all must agree
            common = slice(min(ours.n_iter_, theirs.n_iter_))
            if ours.solver != "lbfgs":
                close(ours.loss_curve_[common], theirs.loss_curve_[common], RELATIVE[dtype])
            close(ours.loss_, theirs.loss_, 0.05)
            return
    assert_same(ours, theirs, X, RELATIVE[dtype])


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "value", "outputs"])
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_partial_fit_goes_on(kind, solver):
    """Chunk after chunk: the optimizer's state and the generator's go on as scikit-learn's do."""
    ours, theirs, X, y = pair(kind, solver=solver, batch_size=20, random_state=np.random.RandomState(3))
    theirs.random_state = np.random.RandomState(3)
    for begin in (0, 40, 70, 0):
        chunk = slice(begin, begin + 50)
        for estimator in (ours, theirs):
            if hasattr(estimator, "predict_proba"):
                labels = np.unique(y) if kind != "multilabel" else np.arange(y.shape[1])
                estimator.partial_fit(X[chunk], y[chunk], classes=labels)
            else:
                estimator.partial_fit(X[chunk], y[chunk])
    assert_same(ours, theirs, X, 1e-8)


@pytest.mark.parametrize("kind", ["multiclass", "value"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_warm_start(kind, solver):
    ours, theirs, X, y = pair(kind, solver=solver, warm_start=True, max_iter=4)
    for _ in range(3):
        fitted(ours, X, y), fitted(theirs, X, y)
    assert_same(ours, theirs, X, 1e-8)


@pytest.mark.filterwarnings("ignore:Constructing a DIA matrix")
@pytest.mark.parametrize("convert", [scipy.sparse.csr_matrix, scipy.sparse.csc_array, scipy.sparse.dia_matrix])
def test_sparse(convert):
    """Sparse X: scikit-learn's numbers, which are those of the dense one."""
    ours, theirs, X, y = pair("multiclass")
    X = np.where(np.abs(X) < 0.7, 0.0, X)
    fitted(ours, convert(X), y), fitted(theirs, X, y)
    assert_same(ours, theirs, X, 1e-8)
    close(ours.predict_proba(convert(X)), theirs.predict_proba(X), 1e-8)
    close(ours.predict_proba(convert(X[:3])), theirs.predict_proba(X[:3]), 1e-8)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16"])
def test_other_numbers(dtype):
    ours, theirs, X, y = pair("multiclass")
    X = (40 * np.abs(X)).astype(dtype)
    fitted(ours, X, y), fitted(theirs, X, y)
    assert_same(ours, theirs, X, 1e-8)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames(library):
    """Frames bring feature names, and other names are refused."""
    frames = pytest.importorskip(library)
    ours, theirs, X, y = pair("strings")
    frame = frames.DataFrame(X, **{"columns" if library == "pandas" else "schema": list("abcdefg")})
    fitted(ours, frame, y), fitted(theirs, X, y)
    assert list(ours.feature_names_in_) == list("abcdefg")
    assert np.array_equal(ours.predict(frame), theirs.predict(X))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        ours.predict(X[:1])
    with pytest.raises(ValueError, match="feature names"):
        ours.predict(frame[["a", "b", "c", "d", "e", "g", "f"]])


def test_estimator_checks():
    """scikit-learn's own checks of an estimator: none fails."""
    for estimator in (fastmlp.MLPClassifier(), fastmlp.MLPRegressor()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = check_estimator(estimator, on_fail=None)
        assert [r["check_name"] for r in results if r["status"] not in ("passed", "skipped")] == []


def test_scikit_learns_tests():
    """scikit-learn's test_mlp.py with our classes in place of its own, but for its test of a private method."""
    program = """
import sys, pytest, fastmlp, sklearn.neural_network
sklearn.neural_network.MLPClassifier = fastmlp.MLPClassifier
sklearn.neural_network.MLPRegressor = fastmlp.MLPRegressor
tests = ["--pyargs", "sklearn.neural_network.tests.test_mlp", "-k", "not test_gradient"]
failed = pytest.main(["-q", "-p", "no:cacheprovider", *tests])
sys.exit("test_mlp.py failed" if failed else 0)
"""
    assert "passed" in run_python("-c", program)


def test_selection_and_pipelines():
    """GridSearchCV, cross_val_score, a Pipeline, clone and metadata routing."""
    X, y = classes("multiclass")
    search = GridSearchCV(
        make_pipeline(StandardScaler(), fastmlp.MLPClassifier(max_iter=5, random_state=0)),
        {"mlpclassifier__hidden_layer_sizes": [(3,), (8,)]},
        cv=2,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search.fit(X, y)
    assert search.best_estimator_.predict(X).shape == y.shape
    estimator = fastmlp.MLPClassifier((3,), dropout=0.25, solver="adamw")
    assert clone(estimator).get_params() == estimator.get_params()
    with config_context(enable_metadata_routing=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        routed = fastmlp.MLPClassifier((3,), max_iter=2).set_fit_request(sample_weight=True)
        routed.set_score_request(sample_weight=True)
        GridSearchCV(routed, {"alpha": [0.1]}, cv=2).fit(X, y, sample_weight=np.ones(len(y)))


def test_pickle():
    """A pickle predicts alike, holds no compiled code, and partial_fit goes on from it to the same bits."""
    ours, _, X, y = pair("multiclass")
    fitted(ours, X, y).predict(X[:1])
    twin = pickle.loads(pickle.dumps(ours))
    assert np.array_equal(twin.predict_proba(X), ours.predict_proba(X))
    ours.set_params(random_state=1), twin.set_params(random_state=1)
    ours.partial_fit(X, y), twin.partial_fit(X, y)
    assert all(np.array_equal(a, b) for a, b in zip(ours.coefs_, twin.coefs_, strict=True))


def test_weights_may_be_changed():
    """coefs_ and intercepts_ are plain arrays; predictions are those of what they hold now."""
    ours, _, X, y = pair("value")
    fitted(ours, X, y)
    ours.coefs_[-1][:] *= 2.0
    ours.intercepts_ = [b + 1.0 for b in ours.intercepts_]
    h = np.maximum(X @ ours.coefs_[0] + ours.intercepts_[0], 0) @ ours.coefs_[1] + ours.intercepts_[1]
    close(ours.predict(X), h[:, 0], 1e-12)
    close(ours.predict(X[:2]), h[:2, 0], 1e-12)
    X = np.tile(X, (3, 1))
    close(ours.predict(X), np.tile(h[:, 0], 3), 1e-12)
    ours.coefs_ = [np.asfortranarray(ours.coefs_[0]), ours.coefs_[1][::-1][::-1].astype("float32")]
    close(ours.predict(X[:2]), h[:2, 0], 1e-6)
    ours.coefs_[1] = ours.coefs_[1][:5]
    for rows in (2, 300):
        with pytest.raises(ValueError):
            ours.predict(X[:rows])
    ours.coefs_ = [np.ones((3, 11)), np.ones((11, 1))]
    for rows in (2, 300):
        with pytest.raises(ValueError):
            ours.predict(X[:rows])


@pytest.mark.parametrize("kind", ["binary", "multiclass", "strings", "multilabel", "value", "outputs"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_few_rows_and_many(kind, dtype):
    """One row, a few and many give the same outputs; ragged widths."""
    for widths in ((5,), (33, 17), ()):
        ours, _, X, y = pair(kind, hidden_layer_sizes=widths, activation="tanh", max_iter=3)
        X = X.astype(dtype)
        fitted(ours, X, y)
        predict = getattr(ours, "predict_proba", ours.predict)
        all_rows = predict(np.tile(X, (3, 1)))[: len(X)]  # so many that the weights are laid out first
        assert all_rows.dtype == X.dtype
        for rows in (1, 3, 7, 8, 9, 16, 31, 127, 128, 129):
            close(predict(X[:rows]), all_rows[:rows], 1e-5 if dtype == "float32" else 1e-12)
        close(predict(X[::-1][:4]), all_rows[::-1][:4], 1e-5 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "strings", "multilabel", "value", "outputs", "counts"])
def test_jit_predict(kind):
    """jit_predict_ inside a user's compiled function predicts what predict does (class numbers for strings)."""
    ours, _, X, y = pair(kind)
    fitted(ours, X, y)
    predict = ours.jit_predict_

    @numba.njit
    def users(X):
        return predict(X[1:])

    expected = ours.predict(X[1:])
    if kind == "strings":
        expected = np.searchsorted(ours.classes_, expected)
    close(users(X), expected, 1e-12)
    ours.coefs_[0][:] = 0.0
    close(users(X), expected, 1e-12)
    with pytest.raises(ValueError, match="features"):
        users(X[:, :2])


def one_step(estimator, X, y, **more):
    """W and b before and after one update over all examples, of a model without hidden layers."""
    start = clone(estimator).set_params(learning_rate_init=1e-300)
    fitted(start, X, y, **more), fitted(estimator, X, y, **more)
    return start.coefs_[0], start.intercepts_[0], estimator.coefs_[0], estimator.intercepts_[0]


ERRORS = {
    "squared_error": lambda h, y: h - y,
    "huber": lambda h, y: np.clip(h - y, -1, 1),
    "absolute_error": lambda h, y: np.sign(h - y),
    "poisson": lambda h, y: np.exp(h) - y,
}
LOSSES = {
    "squared_error": lambda h, y: (h - y) ** 2 / 2,
    "huber": lambda h, y: np.where(abs(h - y) <= 1, (h - y) ** 2 / 2, abs(h - y) - 0.5),
    "absolute_error": lambda h, y: abs(h - y),
    "poisson": lambda h, y: scipy.special.xlogy(y, y) - y + np.exp(h) - y * h,
}


@pytest.mark.parametrize("loss", ERRORS)
@pytest.mark.parametrize("penalty", [{"alpha": 3.0}, {"l2": 0.02}])
def test_regression_losses(loss, penalty):
    """One step of gradient descent and its loss, against the formulas."""
    X, y = values("value")
    y = abs(3 * y)
    common = {"hidden_layer_sizes": (), "random_state": 2, "max_iter": 1}
    regressor = fastmlp.MLPRegressor(loss, solver="gd", learning_rate_init=0.25, **common, **penalty)
    W, b, W1, b1 = one_step(regressor, X, y)
    h = X @ W[:, 0] + b
    l2 = penalty.get("l2", penalty.get("alpha", 0) / len(X))
    close(regressor.loss_, LOSSES[loss](h, y).mean() + l2 / 2 * (W**2).sum(), 1e-12)
    error = ERRORS[loss](h, y)
    close(W1[:, 0], W[:, 0] - 0.25 * (X.T @ error / len(X) + l2 * W[:, 0]), 1e-12)
    close(b1, b - 0.25 * error.mean(), 1e-12)


def test_gradient_clipping_and_weight_decay():
    X, y = values("value")
    common = {"hidden_layer_sizes": (), "random_state": 2, "max_iter": 1, "alpha": 0, "learning_rate_init": 0.5}
    W, b, W1, b1 = one_step(fastmlp.MLPRegressor(solver="gd", max_gradient_norm=1e-3, **common), X, y)
    close(np.sqrt(((W1 - W) ** 2).sum() + ((b1 - b) ** 2).sum()), 0.5e-3, 1e-10)
    adam = fitted(fastmlp.MLPRegressor(solver="adam", **common, batch_size=130), X, y)
    adamw = fitted(fastmlp.MLPRegressor(solver="adamw", weight_decay=0.1, **common, batch_size=130), X, y)
    close(adamw.coefs_[0], adam.coefs_[0] - 0.5 * 0.1 * W, 1e-12)
    close(adamw.intercepts_[0], adam.intercepts_[0], 1e-12)


def test_schedules():
    """cosine is the callable it is described as; a callable's bad answer is refused."""
    X, y = values("value")
    common = {"hidden_layer_sizes": (4,), "random_state": 2, "max_iter": 7, "learning_rate_init": 0.1}
    cosine = fitted(fastmlp.MLPRegressor(learning_rate="cosine", **common), X, y)
    rates = [0.1 * 0.5 * (1 + np.cos(np.pi * epoch / 7)) for epoch in range(7)]
    called = fitted(fastmlp.MLPRegressor(learning_rate=rates.__getitem__, **common), X, y)
    close(cosine.coefs_[0], called.coefs_[0], 1e-12)
    with pytest.raises(ValueError, match="learning_rate"):
        fastmlp.MLPRegressor(learning_rate=lambda epoch: -1.0, **common).fit(X, y)


def test_gradient_descent_until_the_weights_stop_changing():
    X, y = values("value")
    common = {"hidden_layer_sizes": (), "solver": "gd", "learning_rate_init": 0.5, "random_state": 0, "alpha": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = fastmlp.MLPRegressor(max_iter=5000, tol=1e-7, **common).fit(X, y)
    exact = np.linalg.lstsq(np.column_stack([X, np.ones(len(X))]), y, rcond=None)[0]
    close(np.append(done.coefs_[0][:, 0], done.intercepts_[0]), exact, 1e-5)
    assert 10 < done.n_iter_ < 5000
    with pytest.warns(ConvergenceWarning):
        fastmlp.MLPRegressor(max_iter=5, tol=1e-7, **common).fit(X, y)


def test_class_weight():
    """A class's weight is the weight of each of its examples."""
    X, y = classes("binary")
    y[:90] = 0
    given, theirs, _, _ = pair("binary")
    ours = clone(given).set_params(class_weight="balanced")
    weight = len(y) / (2 * np.bincount(y))
    more = np.random.default_rng(0).uniform(0.5, 1, len(y))
    fitted(ours, X, y, sample_weight=more), fitted(theirs, X, y, sample_weight=more * weight[y])
    assert_same(ours, theirs, X, 1e-8)
    given.set_params(class_weight=dict(enumerate(weight)))
    close(fitted(given, X, y, sample_weight=more).coefs_[0], ours.coefs_[0], 1e-12)
    given.partial_fit(X, y, sample_weight=more)
    with pytest.raises(ValueError, match="balanced"):
        ours.partial_fit(X, y, sample_weight=more)


def test_dropout_and_threads():
    """Dropout is drawn from random_state; no result depends on n_threads, and the user's setting is left alone."""
    X, y = classes("multiclass", m=700)
    options = {"hidden_layer_sizes": (130,), "max_iter": 3, "random_state": 1, "dropout": 0.3}
    before = numba.get_num_threads()
    one, two, again = (
        fitted(fastmlp.MLPClassifier(n_threads=n, **options), X, y) for n in (1, numba.config.NUMBA_NUM_THREADS, None)
    )
    plain = fitted(fastmlp.MLPClassifier(**{**options, "dropout": 0.0}), X, y)
    for found in (two, again):
        assert all(np.array_equal(a, b) for a, b in zip(found.coefs_, one.coefs_, strict=True))
    assert not np.allclose(plain.coefs_[0], one.coefs_[0])
    assert numba.get_num_threads() == before


@pytest.mark.parametrize("kind", ["multiclass", "strings", "value"])
def test_eval_set(kind):
    """Scores and losses of eval_set after each epoch; with early stopping no example is set aside."""
    ours, _, X, y = pair(kind, warm_start=True)
    fitted(ours, X[:90], y[:90], eval_set=(X[90:], y[90:]))
    assert len(ours.validation_scores_) == len(ours.validation_curve_) == ours.n_iter_
    close(ours.validation_scores_[-1], ours.score(X[90:], y[90:]), 1e-12)
    if kind == "value":
        close(ours.validation_curve_[-1], ((ours.predict(X[90:]) - y[90:]) ** 2).mean() / 2, 1e-12)
    else:
        close(ours.validation_curve_[-1], log_loss(y[90:], ours.predict_proba(X[90:]), labels=ours.classes_), 1e-12)
    early = pair(kind, early_stopping=True, n_iter_no_change=2, learning_rate_init=0.05, max_iter=100)[0]
    fitted(early, X[:90], y[:90], eval_set=(X[90:], y[90:]))
    assert early.t_ == 90 * early.n_iter_ and early.n_iter_ < 100
    close(early.score(X[90:], y[90:]), early.best_validation_score_, 1e-12)
    with pytest.raises(ValueError, match="eval_set"):
        ours.fit(X, y, eval_set=3)


def test_scoring():
    X, y = classes("binary")
    options = {"early_stopping": True, "max_iter": 8, "random_state": 0}
    found = fitted(fastmlp.MLPClassifier((5,), scoring="neg_log_loss", **options), X, y)
    close(np.negative(found.validation_scores_), found.validation_curve_, 1e-12)
    assert found.best_validation_score_ == max(found.validation_scores_)


class Stopper:
    """A callback in scikit-learn's protocol that notes what it sees and stops after some epochs."""

    def __init__(self, epochs):
        self.epochs, self.scores = epochs, []

    def setup(self, estimator, context):
        self.set_up = True

    def teardown(self, estimator, context):
        self.torn_down = True

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
        if context.task_name == "epoch":
            self.scores.append(fitted_estimator.score(X, y))
            return len(self.scores) == self.epochs


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_callbacks(solver):
    X, y = classes("multiclass")
    stopper, monitor = Stopper(3), ScoringMonitor(scoring="accuracy")
    ours = fastmlp.MLPClassifier((5,), solver=solver, max_iter=20, random_state=0)
    ours.set_callbacks(stopper, monitor, ProgressBar()) if importlib.util.find_spec("rich") else ours.set_callbacks(
        stopper, monitor
    )
    fitted(ours, X, y)
    assert ours.n_iter_ == 3 and stopper.set_up and stopper.torn_down
    assert stopper.scores[-1] == ours.score(X, y)
    epochs = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert [row["accuracy"] for row in epochs][:3] == stopper.scores


def test_ctrl_c():
    """The state so far is returned, with scikit-learn's warning."""

    class Interrupt(Stopper):
        def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
            if super().on_fit_task_end(estimator, context, X=X, y=y, fitted_estimator=fitted_estimator):
                raise KeyboardInterrupt

    X, y = classes("multiclass")
    ours = fastmlp.MLPClassifier((5,), random_state=0).set_callbacks(Interrupt(2))
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        ours.fit(X, y)
    assert ours.n_iter_ == 2 == len(ours.loss_curve_)
    twin = fitted(fastmlp.MLPClassifier((5,), random_state=0, max_iter=2), X, y)
    assert np.array_equal(ours.coefs_[0], twin.coefs_[0])


def test_verbose(capsys):
    X, y = classes("multiclass")
    fitted(fastmlp.MLPClassifier((3,), max_iter=3, verbose=2, early_stopping=True), X, y)
    out = capsys.readouterr().out
    assert "Iteration 3, loss = " in out and out.count("Validation score: ") == 3
    fitted(fastmlp.MLPClassifier((3,), max_iter=3, verbose=True), X, y)
    shown = capsys.readouterr()
    assert shown.out == "" and "3/3" in shown.err and "loss=" in shown.err
    fitted(fastmlp.MLPRegressor(solver="lbfgs", max_iter=3, verbose=2), *values("value"))
    assert "Iteration 3, loss = " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"l2": 0.1, "alpha": 0.5}, "l2"),
        ({"solver": "lbfgs", "dropout": 0.5}, "dropout"),
        ({"hidden_layer_sizes": (3, 0)}, "hidden_layer_sizes"),
        ({"activation": "nope"}, "activation"),
        ({"n_threads": 0}, "n_threads"),
        ({"loss": "nope"}, "loss"),
    ],
)
def test_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        fastmlp.MLPRegressor(**settings).fit(*values("value"))


def test_refused_data():
    X, y = values("value")
    with pytest.raises(ValueError, match="NaN"):
        fastmlp.MLPRegressor().fit(np.where(X > 2, np.nan, X), y)
    with pytest.raises(ValueError, match="poisson"):
        fastmlp.MLPRegressor(loss="poisson").fit(X, y)
    ours = fitted(fastmlp.MLPRegressor(max_iter=1), X, y)
    for rows in (1, 300):
        with pytest.raises(ValueError, match="NaN"):
            ours.predict(np.full((rows, 7), np.nan))
        with pytest.raises(ValueError, match="infinity"):
            ours.predict(np.full((rows, 7), -np.inf))
    with pytest.raises(ValueError, match="features"):
        ours.predict(X[:, :3])
    with pytest.raises(NotFittedError):
        fastmlp.MLPRegressor().predict(X)
    with pytest.raises(AttributeError, match="partial_fit"):
        fastmlp.MLPRegressor(solver="lbfgs").partial_fit(X, y)
    with pytest.raises(ValueError, match="non-finite"), np.errstate(all="ignore"):
        fitted(fastmlp.MLPRegressor(solver="sgd", learning_rate_init=1e10, max_iter=30), 100 * X, y)


@pytest.mark.parametrize("count", [3, 40])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_predict_is_the_most_probable_class(count, dtype):
    """The kernels look for the largest output: as many rows as take each way through the prediction."""
    r = np.random.default_rng(count)
    X, y = (
        r.standard_normal((700, 5)).astype(dtype),
        np.concatenate([np.arange(count), r.integers(0, count, 700 - count)]),
    )
    ours = fitted(fastmlp.MLPClassifier((9,), max_iter=5, random_state=0), X, y + 7)
    for rows in (1, 20, 300, 700):
        expected = ours.predict_proba(X[:rows]).argmax(axis=1) + 7
        assert len(set(expected)) > 1 or rows == 1
        np.testing.assert_array_equal(ours.predict(X[:rows]), expected)
    np.testing.assert_array_equal(ours.predict(scipy.sparse.csr_matrix(X)), expected)


def test_partial_fit_keeps_its_optimizer():
    """As scikit-learn's: settings changed between calls do not reach the optimizer that is under way."""
    for before, after in (
        ({"solver": "sgd"}, {"solver": "adam"}),
        ({"solver": "adam"}, {"solver": "sgd"}),
        ({"solver": "sgd", "momentum": 0.0}, {"momentum": 0.9}),
        ({"solver": "adam"}, {"learning_rate_init": 0.5, "beta_1": 0.1}),
    ):
        ours, theirs, X, y = pair("value", **before)
        for estimator in (ours, theirs):
            estimator.partial_fit(X, y).partial_fit(X, y).set_params(**after).partial_fit(X, y).partial_fit(X, y)
        assert_same(ours, theirs, X, 1e-8)


def test_partial_fit_sees_what_happened_between_calls():
    """The network is kept laid out from call to call: not for longer than its weights and settings stay."""

    def change_weights(estimator):
        estimator.coefs_[0][1, 2] += 0.5
        estimator.intercepts_[1][0] -= 0.25

    def change_settings(estimator):
        estimator.set_params(alpha=0.3)

    def fit_between(estimator):
        fitted(estimator, *values("value"))

    for what in (change_weights, change_settings, fit_between):
        ours, theirs, X, y = pair("value", max_iter=3)
        for estimator in (ours, theirs):
            estimator.partial_fit(X, y).partial_fit(X, y)
            what(estimator)
            estimator.partial_fit(X, y).partial_fit(X, y)
        assert_same(ours, theirs, X, 1e-8)
    for copied in (lambda e: pickle.loads(pickle.dumps(e)), copy.deepcopy):
        ours, theirs, X, y = pair("value")
        first = ours.partial_fit(X, y).partial_fit(X, y)
        second = copied(first)
        first.partial_fit(X, y)
        theirs.partial_fit(X, y).partial_fit(X, y).partial_fit(X, y)
        assert_same(first, theirs, X, 1e-8)
        assert_same(second.partial_fit(X, y), theirs, X, 1e-8)  # from the moments as they were when it was copied


def test_scores_are_those_of_the_metrics():
    rng = np.random.default_rng(3)
    for shape in ((50,), (50, 3), (2,), (2, 1)):
        y, predicted, weight = rng.random(shape), rng.random(shape), rng.random(shape[0])
        labels, others = rng.integers(0, 2, shape), rng.integers(0, 2, shape)
        for w in (None, weight):
            np.testing.assert_allclose(r_squared(y, predicted, w), r2_score(y, predicted, sample_weight=w), rtol=1e-13)
            assert accuracy(labels, others, w) == accuracy_score(labels, others, sample_weight=w)
    constant = np.ones(5)
    for predicted in (constant, 2 * constant):
        assert r_squared(constant, predicted, None) == r2_score(constant, predicted)
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(r_squared(constant[:1], constant[:1], None))


def test_sparse_labels():
    """Multilabel targets as a CSR matrix: the numbers of the dense ones, early stopping and weights included."""
    X, Y = classes("multilabel")
    weight = np.random.default_rng(0).uniform(0.5, 1, len(X))
    options = {"hidden_layer_sizes": (6,), "early_stopping": True, "max_iter": 4, "random_state": 0}
    dense, sparse, theirs = (
        fitted(library.MLPClassifier(**options), X, labels, sample_weight=weight)
        for library, labels in (
            (fastmlp, Y),
            (fastmlp, scipy.sparse.csr_matrix(Y)),
            (neural_network, scipy.sparse.csr_matrix(Y)),
        )
    )
    assert sparse.validation_scores_ == dense.validation_scores_
    np.testing.assert_allclose(sparse.validation_scores_, theirs.validation_scores_)
    close(sparse.coefs_[0], theirs.coefs_[0], 1e-8)


def test_partial_fit_keeps_its_dtype():
    X, y = values("value")
    for first, then in (("float64", "float32"), ("float32", "float64")):
        ours = (
            fastmlp.MLPRegressor(hidden_layer_sizes=(5,)).partial_fit(X.astype(first), y).partial_fit(X.astype(then), y)
        )
        assert all(array.dtype == first for array in (*ours.coefs_, *ours.intercepts_))


def test_other_outputs_are_refused():
    """Targets with another number of outputs than the weights."""
    X, Y = values("outputs")
    for before, after in ((Y[:, 0], Y), (Y, Y[:, 0]), (Y[:, 0], np.ones((len(X), 5000)))):
        with pytest.raises(ValueError, match="outputs"):
            fastmlp.MLPRegressor(hidden_layer_sizes=(5,)).partial_fit(X, before).partial_fit(X, after)
    X, y = classes("multiclass")
    with pytest.raises(ValueError):
        fastmlp.MLPClassifier((5,)).partial_fit(X, y, classes=range(4)).partial_fit(X, np.eye(4, dtype=int)[y])


def test_early_stopping_of_gradient_descent():
    X, y = values("value")
    ours = fastmlp.MLPRegressor(
        hidden_layer_sizes=(8,), solver="gd", early_stopping=True, learning_rate_init=0.1, max_iter=60
    )
    fitted(ours.set_params(random_state=0), X, y)
    assert ours.best_validation_score_ == max(ours.validation_scores_) > 0 and ours.score(X, y) > 0


def test_warm_start_with_early_stopping():
    ours, theirs, X, y = pair("multiclass", warm_start=True, early_stopping=True, max_iter=5, learning_rate_init=0.01)
    for _ in range(4):
        fitted(ours, X, y), fitted(theirs, X, y)
        assert_same(ours, theirs, X, 1e-8)


def test_eval_set_of_lbfgs():
    X, y = values("value")
    ours = fitted(
        fastmlp.MLPRegressor(hidden_layer_sizes=(5,), solver="lbfgs", max_iter=6),
        X[:90],
        y[:90],
        eval_set=(X[90:], y[90:]),
    )
    assert len(ours.validation_scores_) == len(ours.validation_curve_) == ours.n_iter_ == 6
    close(ours.validation_scores_[-1], ours.score(X[90:], y[90:]), 1e-12)


def test_wider_inputs():
    """A float32 model computes in float64 for float64 inputs, as scikit-learn's does; large ones do not overflow."""
    ours, theirs, X, y = pair("value")
    X32 = X.astype(np.float32)
    fitted(ours, X32, y), fitted(theirs, X32, y)
    X, X32 = np.tile(X, (3, 1)), np.tile(X32, (3, 1))
    for rows in (3, 300):
        assert ours.predict(X32[:rows]).dtype == np.float32 and ours.predict(X[:rows]).dtype == np.float64
        assert np.isfinite(ours.predict(X[:rows] * 1e100)).all()
        close(ours.predict(X[:rows]), theirs.predict(X[:rows]), 1e-3)
        half = (100 * X[:rows]).astype(np.float16)
        close(ours.predict(half), ours.predict(half.astype(np.float32)), 1e-6)


@pytest.mark.parametrize("dtype", [">f8", ">f4", ">i4", "longdouble"])
def test_foreign_numbers(dtype):
    """Numbers in another byte order, or wider than a double."""
    ours, theirs, X, y = pair("value")
    X, y = np.round(10 * X).astype(dtype), np.round(10 * y).astype(dtype)
    fitted(ours, X, y), fitted(theirs, X.astype(np.float64), y.astype(np.float64))
    X = np.tile(X, (3, 1))
    for rows in (3, 300):
        close(ours.predict(X[:rows]), theirs.predict(X[:rows].astype(np.float64)), 1e-6)


@pytest.mark.parametrize("kind", ["multiclass", "value"])
def test_negative_weights(kind):
    ours, theirs, X, y = pair(kind, batch_size=130)
    weight = np.random.default_rng(0).uniform(-0.5, 1.5, len(X))
    fitted(ours, X, y, sample_weight=weight), fitted(theirs, X, y, sample_weight=weight)
    assert_same(ours, theirs, X, 1e-8)


def test_dropout_of_partial_fit():
    """With an integer random_state each call leaves out other units."""
    X, y = values("value")
    ours = fastmlp.MLPRegressor(
        hidden_layer_sizes=(40,), dropout=0.5, learning_rate_init=1e-300, random_state=0, shuffle=False
    )
    assert len({float(ours.partial_fit(X, y).loss_) for _ in range(4)}) == 4


@pytest.mark.parametrize("init", ["glorot", "he", "small"])
def test_initial_weights(init):
    X, y = values("value", n=40)
    ours = fitted(
        fastmlp.MLPRegressor(
            hidden_layer_sizes=(200,), init=init, learning_rate_init=1e-300, max_iter=1, random_state=0
        ),
        X,
        y,
    )
    expected = {"glorot": np.sqrt(6 / 240 / 3), "he": np.sqrt(2 / 40), "small": 0.01}[init]
    assert ours.coefs_[0].std() == pytest.approx(expected, rel=0.05)
    assert (ours.intercepts_[0].std() == 0) == (init == "he")


def test_softplus():
    """Predictions and the loss of a trained softplus network, against the formula."""
    X, y = values("value")
    ours = fastmlp.MLPRegressor(
        hidden_layer_sizes=(4,),
        activation="softplus",
        solver="lbfgs",
        max_iter=500,
        tol=1e-7,
        random_state=0,
        device="auto",
    )
    fitted(ours, X, y)
    h = np.logaddexp(0, X @ ours.coefs_[0] + ours.intercepts_[0]) @ ours.coefs_[1] + ours.intercepts_[1]
    close(ours.predict(X), h[:, 0], 1e-12)
    penalty = 1e-4 / len(X) / 2 * sum((W**2).sum() for W in ours.coefs_)
    close(ours.loss_, ((h[:, 0] - y) ** 2).mean() / 2 + penalty, 1e-12)


def test_read_only_and_mapped(tmp_path):
    ours, theirs, X, y = pair("multiclass")
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    fitted(ours, mapped, y), fitted(theirs, X, y)
    assert_same(ours, theirs, X, 1e-8)
    assert np.array_equal(ours.predict(mapped), ours.predict(X))
    assert np.array_equal(ours.predict(mapped[:2]), ours.predict(X[:2]))


def test_predictions_from_many_threads():
    ours, _, X, y = pair("value")
    fitted(ours, X, y)
    expected = ours.predict(X)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda n: ours.predict(X[n % 130 : n % 130 + 1])[0], range(520)))
    close(rows, np.tile(expected, 4), 1e-12)


def test_batch_size_is_clipped():
    X, y = values("value")
    with pytest.warns(UserWarning, match="It is going to be clipped"):
        clipped = fitted(
            fastmlp.MLPRegressor(hidden_layer_sizes=(3,), batch_size=1000, max_iter=3, random_state=0), X, y
        )
    whole = fitted(fastmlp.MLPRegressor(hidden_layer_sizes=(3,), batch_size=130, max_iter=3, random_state=0), X, y)
    assert np.array_equal(clipped.coefs_[0], whole.coefs_[0])


CACHED = """
import sys, warnings, numba, numpy as np, fastmlp
warnings.simplefilter("ignore")
X = np.random.default_rng(0).standard_normal((50, 5))
predict = fastmlp.MLPRegressor(hidden_layer_sizes=(4,), max_iter=2, random_state=0).fit(X, X[:, 0]).jit_predict_

@numba.njit(cache=True)
def users(X):
    return predict(X)

print(users(X).sum())
"""


def test_jit_predict_in_a_cached_function(tmp_path):
    """Addresses are not kept on disk: a later process compiles anew."""
    program = tmp_path / "program.py"
    program.write_text(CACHED)
    assert run_python(str(program)) == run_python(str(program))


def test_transform_is_what_the_last_hidden_layer_puts_out():
    """scikit-learn's transformer convention: in a pipeline, with names and frames; layers by their place."""
    X, y = classes("strings", m=90)
    classifier = fastmlp.MLPClassifier((9, 5), activation="tanh", max_iter=4, random_state=0).fit(X, y)
    W, b = classifier.coefs_, classifier.intercepts_
    first = np.tanh(X @ W[0] + b[0])
    np.testing.assert_allclose(classifier.transform(X, layer=0), first, rtol=1e-11)
    np.testing.assert_allclose(classifier.transform(X), np.tanh(first @ W[1] + b[1]), rtol=1e-11)
    assert np.array_equal(classifier.transform(scipy.sparse.csr_matrix(X)), classifier.transform(X))
    assert classifier.transform(X.astype(np.float32)).dtype == np.float64
    assert list(classifier.get_feature_names_out()) == [f"mlpclassifier{j}" for j in range(5)]
    network = fastmlp.MLPClassifier((9, 5), learning_rate_init=0.02, max_iter=40, random_state=0)
    pipeline = make_pipeline(network, LogisticRegression()).fit(X, y)
    on_representation = LogisticRegression().fit(network.transform(X), y)
    assert np.array_equal(pipeline.predict_proba(X), on_representation.predict_proba(network.transform(X)))
    assert pipeline.score(X, y) > 0.75
    frame = classifier.set_output(transform="pandas").transform(X)
    assert list(frame.columns) == list(classifier.get_feature_names_out()) and frame.shape == (90, 5)
    with pytest.raises(ValueError, match="layer is 0 and set_output wants a frame; the last hidden layer is allowed"):
        classifier.transform(X, layer=0)
    regressor = fastmlp.MLPRegressor(hidden_layer_sizes=(4,), max_iter=2, random_state=0)
    assert regressor.fit_transform(X, X[:, 0]).shape == (90, 4)
    with pytest.raises(ValueError, match="layer is 1; an integer from -1 to 0, a hidden layer, is allowed"):
        regressor.transform(X, 1)
    with pytest.raises(ValueError, match="the network has no hidden layer"):
        fastmlp.MLPClassifier((), max_iter=2).fit(X, y).transform(X)
    with pytest.raises(NotFittedError):
        fastmlp.MLPClassifier().transform(X)
