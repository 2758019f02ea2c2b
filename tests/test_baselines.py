"""The comparison with baselines: scikit-learn's numbers on the same splits, and the verdict."""

import html
import warnings

import numpy as np
import pandas
import pytest
import scipy.sparse
from cases import refused, run_python
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    make_classification,
    make_multilabel_classification,
    make_regression,
)
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneOut,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_score,
    train_test_split,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler
from threadpoolctl import threadpool_limits

import fastmlp
from fastmlp import MLPClassifier, MLPRegressor, baselines, compare_baselines
from fastmlp.baselines import Comparison, Row

IRIS = load_iris(return_X_y=True)
LBFGS = {"solver": "lbfgs", "max_iter": 50, "random_state": 0}
CLASSIFIER = MLPClassifier((8,), **LBFGS)
REGRESSOR = MLPRegressor(hidden_layer_sizes=(8,), **LBFGS)
NAMES = ["linear model", "nearest neighbours", "randomized features", "random hidden layer", "multilayer network"]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The data are so small that scikit-learn's threads would only wait for each other."""
    with threadpool_limits(1):
        yield


def scores(comparison):
    return {row.name: row.scores for row in comparison}


def diabetes(m=200):
    X, y = load_diabetes(return_X_y=True)
    return X[:m], y[:m]


def products(m=300):
    """A target that no linear model can see anything of."""
    X = np.random.default_rng(0).uniform(-1, 1, (m, 2))
    return X, X[:, 0] * X[:, 1]


def searched(neighbours, m, seed=0):
    """Of m examples to train on."""
    grid = {"model__n_neighbors": [1, 3, 5, 10, 20], "scale": ["passthrough", StandardScaler()]}
    pipeline = Pipeline([("scale", None), ("model", neighbours)])
    return GridSearchCV(pipeline, grid, cv=ShuffleSplit(3, test_size=m // 3, random_state=seed))


def logistic(**settings):
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, **settings))


def ridge():
    return make_pipeline(StandardScaler(), RidgeCV([0.001, 0.01, 0.1, 1, 10, 100, 1000]))


def random_layer(network, seed=0):
    return baselines._random_layer(network, seed)


# ---- the numbers ---------------------------------------------------------------------------------------------------


def test_scores_of_a_classifier_are_those_of_cross_val_score():
    X, y = IRIS
    found = compare_baselines(CLASSIFIER, X, y, cv=3, random_state=3)
    cv = StratifiedKFold(3, shuffle=True, random_state=3)
    linear = logistic()
    expected = {
        "most frequent class": DummyClassifier(),
        "linear model": linear,
        "nearest neighbours": searched(KNeighborsClassifier(), 100, 3),
        "randomized features": make_pipeline(RBFSampler(gamma="scale", n_components=500, random_state=3), linear),
        "random hidden layer": make_pipeline(random_layer(CLASSIFIER, 3), linear),
        "multilayer network": CLASSIFIER,
    }
    assert scores(found) == {name: tuple(cross_val_score(model, X, y, cv=cv)) for name, model in expected.items()}
    assert (found.metric, found.network, found.left_out) == ("accuracy", "multilayer network", {})
    for row in found:
        assert (row.score, row.spread) == pytest.approx((np.mean(row.scores), np.std(row.scores, ddof=1)))
        assert row.fit_seconds > 0 and row.predict_seconds > 0


def test_scores_of_a_regressor_are_those_of_cross_val_score():
    """Behind a scaler, which the baselines get, too."""
    X, y = diabetes()
    pipeline = make_pipeline(StandardScaler(), REGRESSOR)
    found = compare_baselines(pipeline, X, y, cv=3)
    cv = KFold(3, shuffle=True, random_state=0)
    expected = {
        "mean of the target": DummyRegressor(),
        "linear model": ridge(),
        "nearest neighbours": searched(KNeighborsRegressor(), 133),
        "randomized features": make_pipeline(RBFSampler(gamma="scale", n_components=500, random_state=0), ridge()),
        "random hidden layer": make_pipeline(random_layer(REGRESSOR), ridge()),
        "multilayer network": REGRESSOR,
    }
    assert list(scores(found)) == list(expected)
    for name, model in expected.items():
        behind = make_pipeline(StandardScaler(), model)
        assert scores(found)[name] == pytest.approx(cross_val_score(behind, X, y, cv=cv)), name
    assert found.metric == "R^2"
    plain = compare_baselines(REGRESSOR, X, y, cv=3)
    assert scores(plain)["randomized features"] != scores(found)["randomized features"]


def test_a_transformed_target_and_a_search_reach_the_baselines():
    X, y = diabetes()
    wrapped = TransformedTargetRegressor(make_pipeline(StandardScaler(), REGRESSOR), func=np.log, inverse_func=np.exp)
    cv = list(GroupKFold(3).split(X, y, np.arange(len(y)) % 7))
    found = scores(compare_baselines(wrapped, X, y, cv=cv))
    linear = clone(wrapped).set_params(regressor=make_pipeline(StandardScaler(), ridge()))
    assert found["linear model"] == tuple(cross_val_score(linear, X, y, cv=cv))
    assert found["multilayer network"] == tuple(cross_val_score(wrapped, X, y, cv=cv))

    search = GridSearchCV(make_pipeline(StandardScaler(), REGRESSOR), {"mlpregressor__alpha": [1e-4, 10]}, cv=2)
    found = scores(compare_baselines(search, X, y, cv=cv, representation=True))
    assert list(found) == ["mean of the target", *NAMES[:4], baselines.REPRESENTATION, NAMES[4]]
    assert found["linear model"] == tuple(cross_val_score(make_pipeline(StandardScaler(), ridge()), X, y, cv=cv))
    assert found["multilayer network"] == tuple(cross_val_score(search, X, y, cv=cv))


def test_the_random_hidden_layer_is_the_networks_before_training():
    """Its shape, activation and kind of start; the same for the same seed; float32 stays float32."""
    X = np.random.default_rng(0).normal(size=(2000, 30)).astype(np.float32)
    network = MLPClassifier((400, 50), activation="tanh")
    a = random_layer(network).fit_transform(X)
    assert a.shape == (2000, 50) and a.dtype == np.float32 and np.abs(a).max() <= 1
    np.testing.assert_array_equal(a, random_layer(network).fit_transform(X))
    np.testing.assert_allclose(a, random_layer(network).fit_transform(X.astype(np.float64)), atol=1e-5)
    np.testing.assert_allclose(a, random_layer(network).fit_transform(scipy.sparse.csc_array(X)), atol=1e-5)
    assert not np.allclose(a, random_layer(network, 1).fit_transform(X))

    linear = MLPClassifier((400,), activation="identity")
    zero, inputs = np.zeros((1, 30), np.float32), np.eye(30, dtype=np.float32)
    for init, of_weights, of_biases in (
        ("glorot", (2 / 430) ** 0.5, (2 / 430) ** 0.5),
        ("he", (2 / 30) ** 0.5, 0),
        ("small", 0.01, 0.01),
    ):
        layer = random_layer(linear.set_params(init=init))
        b = layer.fit_transform(zero)
        assert (layer.fit_transform(inputs) - b).std() == pytest.approx(of_weights, rel=0.05)
        assert b.std() == pytest.approx(of_biases, rel=0.1)
    assert random_layer(MLPClassifier(7)).fit_transform(X).shape == (2000, 7)
    assert random_layer(MLPClassifier(())) is None


def test_the_representation_is_the_networks_last_hidden_layer():
    X, y = products()
    cv = KFold(3)
    found = compare_baselines(make_pipeline(StandardScaler(), REGRESSOR), X, y, cv=cv, representation=True)
    expected = []
    for train, test in cv.split(X):
        scaler = StandardScaler().fit(X[train])
        network = clone(REGRESSOR).fit(scaler.transform(X[train]), y[train])
        learned, unseen = (network.transform(scaler.transform(X[part])) for part in (train, test))
        expected.append(ridge().fit(learned, y[train]).score(unseen, y[test]))
    rows = {row.name: row for row in found}
    of_inputs, learned, network = rows["linear model"], rows[baselines.REPRESENTATION], rows["multilayer network"]
    assert learned.scores == pytest.approx(expected)
    assert of_inputs.score < 0.1 < 0.7 < learned.score
    assert learned.fit_seconds > network.fit_seconds
    assert [row.name for row in found][-2:] == [baselines.REPRESENTATION, "multilayer network"]
    assert found.best_baseline.name != baselines.REPRESENTATION


def test_scoring():
    X, y = IRIS
    found = compare_baselines(CLASSIFIER, X, y, cv=2, scoring="neg_log_loss")
    cv = StratifiedKFold(2, shuffle=True, random_state=0)
    of_network = cross_val_score(CLASSIFIER, X, y, cv=cv, scoring="neg_log_loss")
    assert found.metric == "neg_log_loss" and scores(found)["multilayer network"] == pytest.approx(of_network)
    assert found[0].score == pytest.approx(-np.log(3), rel=1e-3)
    assert "test neg_log_loss" in str(found) and "neg_log_loss -" in found.verdict

    def worst(model, X, y):
        return float(np.min(model.predict(X) == y))

    found = compare_baselines(CLASSIFIER, X, y, scoring=worst, test=(X, y))
    assert found.metric == "worst" and found[0].scores == (0.0,) and np.isnan(found[0].spread)
    assert np.isnan(found.standard_error) and "+-" not in found.verdict


@pytest.mark.parametrize("unit", [1e-3])
def test_units_do_not_matter_to_linear_models_and_neighbours(unit):
    X, y = make_regression(300, 5, noise=1.0, random_state=0)
    of = scores(compare_baselines(REGRESSOR, X * unit, y, cv=3))
    assert min(of["linear model"]) > 0.999 and min(of["randomized features"]) > 0.95
    columns = X[:, :2] * [unit, 1]
    y = np.sign(columns[:, 0]) * np.sign(columns[:, 1])
    found = compare_baselines(CLASSIFIER, columns, y, cv=3)
    assert min(scores(found)["nearest neighbours"]) > 0.85


def test_columns_far_from_zero():
    """Years, say: not centred, a logistic regression is at 1000 iterations where it was at the start."""
    X, y = load_breast_cancer(return_X_y=True)
    X = 2000 + 5 * StandardScaler().fit_transform(X)
    assert compare_baselines(CLASSIFIER, X, y, cv=3)[1].score == pytest.approx(0.977, abs=0.002)


def test_sparse_columns_are_scaled_by_their_largest_value():
    X, y = IRIS
    found = compare_baselines(CLASSIFIER, scipy.sparse.csr_array(X), y, cv=3)
    linear = make_pipeline(MaxAbsScaler(), LogisticRegression(max_iter=1000))
    expected = cross_val_score(linear, X, y, cv=StratifiedKFold(3, shuffle=True, random_state=0))
    assert scores(found)["linear model"] == tuple(expected)


def test_many_examples_have_a_ridge_penalty_of_one(monkeypatch):
    monkeypatch.setattr(baselines, "RIDGE_ROWS", 100)
    X, y = diabetes()
    found = compare_baselines(REGRESSOR, X, y, cv=KFold(3))
    expected = cross_val_score(make_pipeline(StandardScaler(), Ridge()), X, y, cv=KFold(3))
    assert scores(found)["linear model"] == pytest.approx(expected)


@pytest.mark.parametrize("weight", [{0: 1, 1: 20}])
def test_class_weight_reaches_the_linear_models(weight):
    X, y = make_classification(200, 5, weights=[0.9], flip_y=0.1, random_state=0)
    cv = StratifiedKFold(2, shuffle=True, random_state=0)
    network = clone(CLASSIFIER).set_params(class_weight=weight)
    found = scores(compare_baselines(make_pipeline(StandardScaler(), network), X, y, cv=2, scoring="recall"))
    expected = cross_val_score(logistic(class_weight=weight), X, y, cv=cv, scoring="recall")
    assert found["linear model"] == tuple(expected)
    assert np.mean(expected) > cross_val_score(logistic(), X, y, cv=cv, scoring="recall").mean() + 0.1


def test_a_forests_class_weight_is_understood():
    forest = RandomForestClassifier(5, class_weight="balanced_subsample", random_state=0)
    assert not compare_baselines(forest, *IRIS, cv=2).left_out


# ---- one test set --------------------------------------------------------------------------------------------------


def test_accuracy_on_a_test_set():
    """The spread is the binomial standard error; the verdict's is that of differences in pairs."""
    X, X_test, y, y_test = train_test_split(*IRIS, random_state=0)
    found = compare_baselines(CLASSIFIER, X, y, test=(X_test, y_test))
    network = clone(CLASSIFIER).fit(X, y).predict(X_test) == y_test
    linear = logistic().fit(X, y).predict(X_test) == y_test
    of = scores(found)
    assert of["multilayer network"] == (network.mean(),) and of["linear model"] == (linear.mean(),)
    for row in found:
        assert row.spread == pytest.approx((row.score * (1 - row.score) / len(y_test)) ** 0.5)
    best = found.best_baseline
    model = {
        "linear model": logistic(),
        "nearest neighbours": searched(KNeighborsClassifier(), 112),
    }
    right = model[best.name].fit(X, y).predict(X_test) == y_test
    difference = network.astype(float) - right
    assert found.standard_error == pytest.approx(difference.std() / len(y_test) ** 0.5)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
def test_r_squared_on_a_test_set(outputs):
    X, y = products()
    y = np.column_stack([y, X[:, 0] ** 2])[:, :outputs]
    found = compare_baselines(REGRESSOR, X[:200], y[:200], test=(X[200:], y[200:]))
    network, linear = (model.fit(X[:200], y[:200]).predict(X[200:]) for model in (clone(REGRESSOR), ridge()))
    assert scores(found)["multilayer network"][0] == pytest.approx(r2_score(y[200:], network))
    assert scores(found)["linear model"][0] == pytest.approx(r2_score(y[200:], linear))
    shares = (1 - (y[200:] - network.reshape(100, -1)) ** 2 / y[200:].var(axis=0)).mean(axis=1)
    assert found[-1].score == pytest.approx(shares.mean()) and found[-1].spread == pytest.approx(shares.std() / 10)
    assert f"keep: R^2 {found[-1].score:.3f} against {found.best_baseline.score:.3f} of" in found.verdict
    assert "splits" not in found.verdict


def test_a_fitted_model_as_it_is():
    X, X_test, y, y_test = train_test_split(*IRIS, random_state=0)
    fitted = clone(CLASSIFIER).fit(X, y)
    expected = fitted.score(X_test, y_test)
    found = compare_baselines(FrozenEstimator(fitted), X[::2], y[::2], test=(X_test, y_test))
    assert [row.name for row in found][1:] == NAMES and found[-1].scores == (expected,)
    found = baselines.compare_fitted(fitted, 1e9, X, y, (X_test, y_test), 0)
    assert found[-1].fit_seconds == 1e9 and found[-1].scores == (expected,) and "e+" in found.verdict


# ---- the verdict ---------------------------------------------------------------------------------------------------


def test_earned_where_features_must_be_learned():
    """A product of two of many inputs: neighbours and random features are lost among the others."""
    r = np.random.default_rng(0)
    X = r.choice([-1.0, 1.0], (600, 20))
    y = np.where(X[:, 0] * X[:, 1] > 0, "same", "other")
    network = MLPClassifier((16,), max_iter=200, alpha=1e-3, learning_rate_init=0.01, random_state=0)
    found = compare_baselines(network, X, y)
    assert found.verdict.startswith("The network earned its keep: accuracy ")
    assert " better on 5 of 5 splits, " in found.verdict and f"of the {found.best_baseline.name} (" in found.verdict
    assert found[-1].score > 0.95 and found[1].score < 0.6


def test_not_earned_on_a_linear_problem():
    r = np.random.default_rng(0)
    X = r.normal(size=(300, 10))
    y = X @ r.normal(size=10) + r.normal(0, 0.1, 300)
    found = compare_baselines(MLPRegressor(hidden_layer_sizes=(8,), max_iter=60, random_state=0), X, y)
    assert found.verdict.startswith("The network did not earn its keep: R^2 ")
    assert found.best_baseline.name == "linear model" and "better on 0 of 5 splits" in found.verdict


def test_the_network_beats_the_linear_model_on_the_digits():
    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float32) / 16
    network = MLPClassifier((64,), learning_rate_init=0.01, batch_size=32, max_iter=40, random_state=0)
    found = compare_baselines(network, X[:1000], y[:1000], test=(X[1000:], y[1000:]))
    of = scores(found)
    assert of["multilayer network"] > of["linear model"] > of["most frequent class"]


def table(network, baseline, standard_error, seconds=(1.0, 0.1)):
    rows = [
        Row(name, values, float(np.mean(values)), 0.01, time, 0.0)
        for name, values, time in zip(("linear model", "multilayer network"), (baseline, network), seconds[::-1])
    ]
    return Comparison(tuple(rows), "accuracy", "multilayer network", standard_error, {})


def test_what_the_verdict_says():
    found = table((0.9, 1.0), (0.8, 0.9), 0.03)
    assert found.verdict == (
        "The network earned its keep: accuracy 0.950 against 0.850 of the linear model (difference +0.100 +- 0.030), "
        "better on 2 of 2 splits, 10 times slower."
    )
    found = table((0.8, 0.9), (0.9, 0.85), 0.01, seconds=(0.1, 0.3))
    assert found.verdict == (
        "The network did not earn its keep: accuracy 0.850 against 0.875 of the linear model (difference -0.025 +- "
        "0.010), better on 1 of 2 splits, 3 times faster."
    )
    assert table((0.9, 0.9), (0.88, 0.9), 0.02).verdict.startswith("It is too close to call whether the network earned")
    assert table((0.9,), (0.9,), np.nan).verdict.startswith("It is too close to call whether the network earned")
    for standard_error in (np.nan, 0.0):  # of a scorer's; of a handful of examples
        expected = "The network {}, but how much of it is chance is not known (several splits tell): accuracy 0.9"
        assert table((0.91,), (0.9,), standard_error).verdict.startswith(expected.format("leads"))
        assert table((0.9,), (0.91,), standard_error).verdict.startswith(expected.format("trails"))
    assert table((0.9, 0.9), (0.8, 0.8), 0.0).verdict.startswith("The network earned its keep: ")
    assert table((np.nan,), (0.9,), np.nan).verdict.startswith("There is no verdict, for accuracy is not a finite")
    alone = Comparison(table((0.9,), (0.9,), 0).rows[1:], "accuracy", "multilayer network", np.nan, {})
    assert alone.best_baseline is None and alone.verdict.startswith("There is no verdict, for no baseline")


def test_one_split_with_a_scorer_has_no_standard_error():
    X, X_test, y, y_test = train_test_split(*IRIS, random_state=0)
    found = compare_baselines(CLASSIFIER, X, y, test=(X_test, y_test), scoring="neg_log_loss")
    assert "but how much of it is chance is not known (several splits tell)" in found.verdict


def test_pace_and_seconds():
    words = [baselines._pace(ratio) for ratio in (0.0049, 0.5, 0.95, 1.04, 1.26, 29.4)]
    assert words == ["200 times faster", "2 times faster", "as fast", "as fast", "1.3 times slower", "29 times slower"]
    shown = [baselines._seconds(value) for value in (0.0, 0.00001234, 0.00049, 0.09996, 0.9996, 12.345, 123.45, 98765)]
    assert shown == ["0", "0.0000123", "0.000490", "0.100", "1.00", "12.3", "123", "98800"]


def test_the_standard_error_is_that_of_nadeau_and_bengio():
    found = compare_baselines(CLASSIFIER, *IRIS, cv=5)
    differences = np.subtract(found[-1].scores, found.best_baseline.scores)
    expected = ((1 / 5 + 30 / 120) * differences.var(ddof=1)) ** 0.5
    assert found.standard_error == pytest.approx(expected) and expected > 0


# ---- what is allowed -----------------------------------------------------------------------------------------------


def test_multilabel():
    X, Y = make_multilabel_classification(200, 6, n_classes=3, random_state=0)
    found = compare_baselines(CLASSIFIER, X, Y, cv=3)
    cv = KFold(3, shuffle=True, random_state=0)
    linear = make_pipeline(StandardScaler(), OneVsRestClassifier(LogisticRegression(max_iter=1000)))
    assert scores(found)["linear model"] == tuple(cross_val_score(linear, X, Y, cv=cv))
    assert scores(found)["multilayer network"] == tuple(cross_val_score(CLASSIFIER, X, Y, cv=cv))
    assert [row.name for row in found] == ["most frequent class", *NAMES] and not found.left_out


def test_several_outputs():
    X, y = products()
    Y = np.column_stack([y, X[:, 0] - X[:, 1]])
    found = compare_baselines(REGRESSOR, X, Y, cv=3, representation=True)
    cv = KFold(3, shuffle=True, random_state=0)
    neighbours = searched(KNeighborsRegressor(), 200)
    assert scores(found)["nearest neighbours"] == tuple(cross_val_score(neighbours, X, Y, cv=cv))
    assert len(found) == 7 and not found.left_out


@pytest.fixture(scope="module")
def of_arrays():
    return scores(compare_baselines(CLASSIFIER, *tenths(), cv=2))


def tenths():
    return np.round(IRIS[0] * 10), np.array(["setosa", "versicolor", "virginica"])[IRIS[1]]


@pytest.mark.parametrize("kind", ["frame", "CSR", "CSC", "lists", "integers", "float32"])
def test_kinds_of_data(kind, of_arrays):
    X, y = tenths()
    make = {
        "frame": lambda: (pandas.DataFrame(X, columns=list("abcd")), pandas.Series(y)),
        "CSR": lambda: (scipy.sparse.csr_array(X), y),
        "CSC": lambda: (scipy.sparse.csc_matrix(X), y),
        "lists": lambda: (X.tolist(), y.tolist()),
        "integers": lambda: (X.astype(np.uint8), y),
        "float32": lambda: (X.astype(np.float32), y.astype(object)),
    }
    found = compare_baselines(CLASSIFIER, *make[kind](), cv=2, representation=True)
    assert not found.left_out and [row.name for row in found if row.name != baselines.REPRESENTATION][1:] == NAMES
    assert min(scores(found)[baselines.REPRESENTATION]) > 0.9
    for name in ("most frequent class", "linear model", "nearest neighbours"):
        # of equally near neighbours, another search finds others; sparse matrices are scaled in another way
        same = name[0] == "m" or name[0] == "l" and "C" not in kind
        assert scores(found)[name] == pytest.approx(of_arrays[name], abs=0 if same else 0.06)


def test_other_models():
    """Any classifier is compared; without hidden layers there is no random one."""
    found = compare_baselines(RandomForestClassifier(10, random_state=0), *IRIS, cv=2)
    assert [row.name for row in found] == ["most frequent class", *NAMES[:3], "RandomForestClassifier"]
    assert found.network == "RandomForestClassifier" and "he RandomForestClassifier " in found.verdict
    found = compare_baselines(clone(CLASSIFIER).set_params(hidden_layer_sizes=()), *IRIS, cv=2)
    assert len(found) == 5 and found.network == "multilayer network"


def test_the_estimator_is_left_as_it_is():
    generator = np.random.RandomState(3)
    before = generator.get_state()[1].copy()
    pipeline = make_pipeline(StandardScaler(), MLPClassifier((4,), max_iter=3, random_state=generator))
    compare_baselines(pipeline, *IRIS, cv=2)
    assert not hasattr(pipeline[-1], "coefs_") and not hasattr(pipeline[0], "mean_")
    assert (generator.get_state()[1] == before).all() and pipeline[-1].random_state is generator

    fitted = clone(CLASSIFIER).fit(*IRIS)
    arrays = [W.copy() for W in fitted.coefs_]
    first, again = (scores(compare_baselines(fitted, *IRIS, cv=2)) for _ in range(2))
    assert all((W == V).all() for W, V in zip(fitted.coefs_, arrays, strict=True)) and first == again


def test_random_state():
    """A generator makes the folds, but not by itself: fit and prediction see the same random features."""
    first, again, other = (
        scores(compare_baselines(CLASSIFIER, *IRIS, cv=2, random_state=state))
        for state in (np.random.RandomState(0), np.random.RandomState(0), np.random.RandomState(1))
    )
    assert first == again != other and min(first["random hidden layer"]) > 0.8


def test_few_examples():
    """Fewer than neighbours are asked for."""
    X, y = np.arange(8.0)[:, None], np.arange(8) % 2
    found = compare_baselines(CLASSIFIER, X, y, cv=2)
    assert len(found) == 6 and not found.left_out
    found = compare_baselines(REGRESSOR, X[:2], X[:2, 0], test=(X, X[:, 0]))
    assert len(found) == 6 and not found.left_out
    found = compare_baselines(REGRESSOR, X, X[:, 0], test=(X[:3], [1, 1, 1]))
    assert found[0].score == 0 and np.isnan(found[0].spread) and np.isnan(found.standard_error)


def test_a_baseline_that_fails_is_left_out(monkeypatch):
    def fail(*_):
        raise ValueError("too\nnear")

    monkeypatch.setattr(KNeighborsClassifier, "fit", fail)
    found = compare_baselines(CLASSIFIER, *IRIS, cv=2)
    assert found.left_out == {"nearest neighbours": "too near"} and len(found) == 5
    assert "\nnote: no score of nearest neighbours: too near\n" in str(found)
    assert "<p>note: no score of nearest neighbours: too near</p>" in found._repr_html_()


@pytest.mark.parametrize(
    ("network", "note"),
    [
        (MLPClassifier((4,), max_iter=2), "the network's training had not ended after max_iter=2 epochs"),
        (
            GridSearchCV(make_pipeline(MLPClassifier((4,), solver="lbfgs", max_iter=3)), {}, cv=2),
            "the network's training had not ended after max_iter=3 iterations",
        ),
        (LogisticRegression(max_iter=2), "the fit of the LogisticRegression had not converged"),
    ],
)
def test_a_training_that_had_not_ended_is_noted_once(network, note, recwarn):
    warnings.simplefilter("always")
    found = compare_baselines(network, *IRIS, cv=2)
    assert found.notes == (note,) and len(recwarn) == 0
    assert f"\nnote: {note}\n\n" in str(found)
    assert f"<p>note: {html.escape(note)}</p>" in found._repr_html_()


def test_other_warnings_of_the_network_are_shown(recwarn):
    """Those of its own fits, one a split; none of the baselines', nor of what is fitted before the clock runs."""
    warnings.simplefilter("always")
    network = MLPClassifier((4,), batch_size=500, max_iter=2, random_state=0)
    found = compare_baselines(network, IRIS[0] * 1e3, IRIS[1], cv=2)
    assert [w.category for w in recwarn] == [UserWarning] * 2 and "`batch_size`" in str(recwarn[0].message)
    assert len(found.notes) == 1


def test_one_class_only():
    found = compare_baselines(DummyClassifier(), np.arange(8.0)[:, None], np.zeros(8), test=([[1.0]], [0.0]))
    assert found.left_out["linear model"].endswith("the data contains only one class: 0.0")


def test_ctrl_c_ends_it(monkeypatch):
    """The estimators take it as the end of one training."""
    fit = MLPClassifier.fit

    def interrupted(self, *data):
        fit(self, *data)
        warnings.warn("Training interrupted by user.", stacklevel=2)

    monkeypatch.setattr(MLPClassifier, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare_baselines(CLASSIFIER, *IRIS)


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (fastmlp.Network([4, 3]), "estimator is a Network; MLPClassifier or MLPRegressor"),
        (MLPClassifier, "estimator is MLPClassifier, a class; "),
        (3, "estimator is int, no estimator; "),
        (StandardScaler(), "estimator is StandardScaler, which predicts nothing; "),
    ],
)
def test_no_estimator(estimator, words):
    with pytest.raises(TypeError, match=words):
        compare_baselines(estimator, *IRIS)


def test_wrong_arguments(monkeypatch):
    """They are refused before anything is fitted; the network's own errors are raised."""
    X, y = IRIS

    def fit(*_):
        raise AssertionError

    for settings, fragments in (
        ({"cv": 3, "test": (X, y)}, ["cv is 3 and test is given"]),
        ({"test": X}, ["test is not a pair; (X, y) is allowed"]),
        ({"test": (X, y[:5])}, ["inconsistent numbers of samples: [150, 5]"]),
        ({"test": (X[:0], y[:0])}, ["test has no examples"]),
        ({"cv": []}, ["cv has no splits"]),
        ({"cv": 1}, ["cv is 1, by which 150 examples cannot be split: ", "n_splits=1"]),
        ({"cv": 51}, ["cv is 51, by which 150 examples cannot be split: ", "members in each class"]),
        ({"cv": GroupKFold(3)}, ["cv is GroupKFold(", "'groups'"]),
        ({"scoring": ["accuracy"]}, ["scoring is ['accuracy']; None, a name or a callable"]),
        ({"scoring": "acuracy"}, ["acuracy"]),
        ({"random_state": "x"}, ["'x' cannot be used to seed"]),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(MLPClassifier, "fit", fit)
            with refused(*fragments):
                compare_baselines(CLASSIFIER, X, y, **settings)
    with monkeypatch.context() as patch:
        patch.setattr(MLPRegressor, "fit", fit)
        for settings in ({}, {"cv": LeaveOneOut()}, {"scoring": "r2"}, {"cv": [([0, 1, 2], [3, 4]), ([1, 2], [0])]}):
            with refused("cv is ", ", by which a fold has one example to test on; R^2 needs two or more"):
                compare_baselines(REGRESSOR, X[:5], X[:5, 0], **settings)
        with refused("cv is 5, by which 3 examples cannot be split"):
            compare_baselines(REGRESSOR, X[:3], X[:3, 0])
    with refused("inconsistent numbers of samples"):
        compare_baselines(CLASSIFIER, X, y[:7])
    with refused("representation is True", "a LogisticRegression without a hidden layer"):
        compare_baselines(LogisticRegression(), X, y, representation=True)
    with refused("a MLPClassifier without a hidden layer"):
        compare_baselines(MLPClassifier(()), X, y, representation=True)
    with refused("X contains NaN"):
        compare_baselines(CLASSIFIER, np.full_like(X, np.nan), y)


# ---- how it is shown -----------------------------------------------------------------------------------------------


def test_table():
    """One line a row, aligned, and the verdict."""
    found = table((0.9, 1.0), (0.8, 0.9), 0.03)
    expected = """\
                     test accuracy   spread   fit s   predict s
linear model                0.8500   0.0100   0.100           0
multilayer network          0.9500   0.0100    1.00           0

"""
    assert str(found) == repr(found) == expected + found.verdict
    shown = found._repr_html_()
    assert shown.count("<tr>") == 3 and "<tr><th>linear model</th><td>0.8500</td><td>0.0100</td>" in shown
    assert "<strong>multilayer network</strong>" in shown and shown.endswith(f"<p>{found.verdict}</p>")


def test_sequence_array_and_frame():
    found = compare_baselines(CLASSIFIER, *IRIS, cv=2)
    assert len(found) == 6 and tuple(found) == found.rows
    assert found[-1] is found.rows[5] and found[:2] == found.rows[:2]
    array = found.to_array()
    assert array.dtype.names == ("name", "score", "spread", "fit_seconds", "predict_seconds") and array.shape == (6,)
    frame = pandas.DataFrame(array)
    assert list(frame["name"]) == [row.name for row in found]
    for name in array.dtype.names[1:]:
        assert frame[name].dtype == np.float64 and list(frame[name]) == [getattr(row, name) for row in found]


def test_plot(monkeypatch):
    displays = pytest.importorskip("fastmlp.displays")
    pytest.importorskip("matplotlib").use("agg")
    found = table((0.9, 1.0), (0.8, 0.9), 0.03)
    assert isinstance(found.plot(), displays.BaselineDisplay)


def test_importing_is_light():
    """fastmlp.baselines waits for scikit-learn until a comparison is asked for."""
    program = "import sys, fastmlp.baselines, fastmlp; fastmlp.compare_baselines; print('sklearn' in sys.modules)"
    assert run_python("-c", program) == "False\n"
