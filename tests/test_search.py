"""MLPSearchCV beside scikit-learn's searches: the same results, from networks that are trained together."""

import pickle

import numpy as np
import pytest
import scipy.stats
from joblib import parallel_config
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.exceptions import FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    KFold,
    RandomizedSearchCV,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

from fastmlp import MLPClassifier, MLPRegressor, MLPSearchCV, search

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Got `batch_size` less than 1 or larger than sample size"),
    pytest.mark.filterwarnings("ignore:X does not have valid feature names"),
]

RNG = np.random.default_rng(0)
X = RNG.standard_normal((72, 5))
Y = X @ RNG.standard_normal((5, 3)) + 0.3 * RNG.standard_normal((72, 3))
LABELS = np.array(["ash", "oak", "yew"])[Y.argmax(axis=1)]
VALUES = 100 * Y[:, 0] + 300
GRID = {"hidden_layer_sizes": [(4,), (6, 3)], "alpha": [1e-4, 1.0]}
CLASSIFIER = MLPClassifier(max_iter=6, learning_rate_init=0.03, batch_size=16, random_state=0)
REGRESSOR = MLPRegressor(max_iter=6, learning_rate_init=0.03, batch_size=16, random_state=0)


def assert_same(ours, theirs):
    """Every result but the times, to the bit."""
    assert list(ours.cv_results_) == list(theirs.cv_results_)
    for key, expected in theirs.cv_results_.items():
        if "_time" not in key:
            np.testing.assert_array_equal(ours.cv_results_[key], expected, key)
            assert ours.cv_results_[key] is not expected
    for name in ("best_index_", "best_score_", "best_params_", "n_splits_", "multimetric_"):
        assert hasattr(ours, name) == hasattr(theirs, name), name
        assert getattr(ours, name, None) == getattr(theirs, name, None), name
    assert hasattr(ours, "best_estimator_") == hasattr(theirs, "best_estimator_")
    if hasattr(theirs, "best_estimator_"):
        assert np.array_equal(ours.predict(X), theirs.predict(X))
        assert type(ours.best_estimator_) is type(theirs.best_estimator_)


def both(estimator, space, y, kind=GridSearchCV, fit_params=None, **settings):
    """Our search and scikit-learn's, on the same splits."""
    fit_params = fit_params or {}
    theirs = kind(estimator, space, **settings).fit(X, y, **fit_params)
    place = "param_distributions" if "Random" in kind.__name__ else "param_grid"
    if "Halving" in kind.__name__:
        settings["halving"] = True
    if "n_candidates" in settings:
        settings["n_iter"] = settings.pop("n_candidates")
    ours = MLPSearchCV(estimator, **{place: space}, **settings).fit(X, y, **fit_params)
    assert_same(ours, theirs)
    return ours, theirs


def last(results):
    return len(results["params"]) - 1


def two_metrics(estimator, X, y):
    p = estimator.predict_proba(X)
    return {"right": (estimator.classes_[p.argmax(axis=1)] == y).mean(), "surest": p.max()}


@pytest.mark.parametrize(
    "settings",
    [
        {"return_train_score": True},
        {"scoring": "neg_log_loss", "cv": 3},
        {"scoring": make_scorer(accuracy_score), "refit": False},
        {"scoring": ["accuracy", "f1_macro"], "refit": "f1_macro", "cv": KFold(2)},
        {"scoring": {"a": "accuracy", "b": "neg_log_loss"}, "refit": last, "cv": 2},
        {"scoring": two_metrics, "refit": "surest", "cv": 2},
        {"scoring": ["accuracy", "f1_macro"], "refit": False, "cv": [(np.arange(40), np.arange(40, 72))]},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_grid(settings):
    """GridSearchCV's results: scorers, refitting and splits of every kind."""
    ours, theirs = both(CLASSIFIER, GRID, LABELS, **settings)
    if ours.refit is True:
        assert ours.score(X, LABELS) == theirs.score(X, LABELS)
        assert np.array_equal(ours.predict_proba(X), theirs.predict_proba(X))
        assert np.array_equal(ours.transform(X), theirs.transform(X))
        assert np.array_equal(ours.classes_, theirs.classes_) and ours.n_features_in_ == 5 and ours.refit_time_ > 0
    assert (ours.cv_results_["mean_fit_time"] > 0).all() and (ours.cv_results_["mean_score_time"] > 0).all()


def test_solvers_early_stopping_and_several_grids():
    grids = [{"solver": ["lbfgs", "gd", "sgd"]}, {"early_stopping": [True], "activation": ["tanh", "logistic"]}]
    both(CLASSIFIER, grids, LABELS, cv=2)


def test_random():
    space = {"alpha": scipy.stats.loguniform(1e-4, 10), "hidden_layer_sizes": [(3,), (4, 4)]}
    both(CLASSIFIER, space, LABELS, kind=RandomizedSearchCV, n_iter=4, random_state=1, cv=2)


@pytest.mark.parametrize(
    "kind, settings",
    [
        (HalvingGridSearchCV, {"factor": 2}),
        (HalvingGridSearchCV, {"resource": "max_iter", "max_resources": 6, "min_resources": "smallest"}),
        (HalvingGridSearchCV, {"min_resources": 30, "factor": 2, "aggressive_elimination": True}),
        (HalvingRandomSearchCV, {"n_candidates": 5, "max_resources": 60, "min_resources": 20}),
    ],
)
def test_halving(kind, settings):
    """Halving*SearchCV's results, iteration by iteration."""
    grid = GRID | {"learning_rate_init": [0.01, 0.1]}
    settings = settings | {"cv": 2, "random_state": 3, "return_train_score": False}
    ours, theirs = both(CLASSIFIER, grid, LABELS, kind=kind, **settings)
    for name in ("n_resources_", "n_candidates_", "n_iterations_", "n_remaining_candidates_", "n_required_iterations_"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.n_iterations_ > 1 and ours.min_resources_ == theirs.min_resources_


class Scaler(StandardScaler):
    """That counts its fits."""

    fits = 0

    def fit(self, *data, **params):
        Scaler.fits += 1
        return super().fit(*data, **params)


def test_pipelines():
    """Transformers are fitted once for each split and each choice of their own parameters."""
    pipeline = Pipeline([("scaler", Scaler()), ("mlp", CLASSIFIER)])
    both(pipeline, {"mlp__alpha": [1e-4, 1.0], "mlp__hidden_layer_sizes": [(3,), (4,)]}, LABELS, cv=2)
    Scaler.fits = 0
    MLPSearchCV(pipeline, {"mlp__alpha": [1e-4, 1e-2, 1.0], "scaler__with_mean": [True, False]}, cv=3).fit(X, LABELS)
    assert Scaler.fits == 3 * 2 + 1  # and the best, refitted
    networks = [CLASSIFIER, MLPClassifier(max_iter=1, random_state=2)]
    grid = {"scaler__with_mean": [True, False], "mlp__alpha": [1e-4, 1.0], "mlp": networks}
    both(pipeline, [grid, {"scaler": ["passthrough", PCA(2, random_state=0)]}], LABELS, cv=2)


def test_transformed_targets():
    """Around a network, around a pipeline, and at the end of one."""
    scaled = TransformedTargetRegressor(REGRESSOR, transformer=StandardScaler())
    both(scaled, {"regressor__alpha": [1e-4, 1.0]}, VALUES, cv=2)
    nested = TransformedTargetRegressor(make_pipeline(StandardScaler(), REGRESSOR), transformer=StandardScaler())
    grid = {"regressor__mlpregressor__alpha": [1e-4, 1.0], "check_inverse": [True, False]}
    ours, _ = both(nested, grid, VALUES, cv=2)
    assert ours.best_score_ > -5  # networks of 6 epochs could not have reached the unscaled targets
    both(make_pipeline(StandardScaler(), scaled), {"transformedtargetregressor__regressor__alpha": [1, 2]}, Y, cv=2)


def seen_by_scorer(estimator, X, y):
    """A number that is different if anything of the fitted estimator is."""
    network = estimator.regressor_[-1]
    assert type(estimator) is TransformedTargetRegressor and type(network) is MLPRegressor
    assert type(estimator.regressor[-1]) is MLPRegressor and not {"fit", "set_params"} & set(vars(estimator))
    assert not hasattr(estimator.regressor[-1], "coefs_") and list(estimator.feature_names_in_) == list("abcde")
    assert estimator.n_features_in_ == network.n_features_in_ == 5
    return network.coefs_[0].sum() + estimator.transformer_.mean_[0] + network.alpha


def test_scorers_see_whole_estimators():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcde"))
    estimator = TransformedTargetRegressor(make_pipeline(StandardScaler(), REGRESSOR), transformer=StandardScaler())
    settings = {"scoring": seen_by_scorer, "error_score": "raise", "refit": False, "cv": 2}
    grid = {"regressor__mlpregressor__alpha": [1e-4, 1.0]}
    theirs = GridSearchCV(estimator, grid, **settings).fit(frame, pandas.Series(VALUES))
    assert_same(MLPSearchCV(estimator, grid, **settings).fit(frame, pandas.Series(VALUES)), theirs)


def test_frames_and_sparse():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcde"))
    ours = MLPSearchCV(CLASSIFIER, GRID, cv=2).fit(frame, pandas.Series(LABELS))
    assert list(ours.feature_names_in_) == list("abcde")
    theirs = MLPSearchCV(CLASSIFIER, GRID, cv=2).fit(scipy.sparse.csr_array(X), LABELS)
    assert_same(ours, GridSearchCV(CLASSIFIER, GRID, cv=2).fit(X, LABELS))
    assert np.array_equal(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"])


def test_weights_groups_and_routing():
    """What fit takes besides goes where GridSearchCV takes it."""
    weight, groups = RNG.random(72), np.arange(72) % 4
    params = {"sample_weight": weight, "groups": groups}
    both(REGRESSOR, GRID, VALUES, cv=GroupKFold(2), fit_params=params)
    pipeline = make_pipeline(StandardScaler(), REGRESSOR)
    both(pipeline, {"mlpregressor__alpha": [1e-4, 1]}, Y, cv=2, fit_params={"mlpregressor__sample_weight": weight})
    with config_context(enable_metadata_routing=True):
        estimator = make_pipeline(StandardScaler(), clone(REGRESSOR).set_fit_request(sample_weight=True))
        estimator.named_steps["standardscaler"].set_fit_request(sample_weight=False)
        estimator.named_steps["mlpregressor"].set_score_request(sample_weight=True)
        both(estimator, {"mlpregressor__alpha": [1e-4, 1]}, VALUES, cv=GroupKFold(2), fit_params=params)


def test_splits_are_drawn_once():
    """A splitter that draws other splits at each call is asked once."""
    theirs = GridSearchCV(CLASSIFIER, GRID, cv=KFold(2, shuffle=True, random_state=np.random.RandomState(0)))
    ours = MLPSearchCV(CLASSIFIER, GRID, cv=KFold(2, shuffle=True, random_state=np.random.RandomState(0)))
    assert_same(ours.fit(X, LABELS), theirs.fit(X, LABELS))


def test_fits_are_grouped_and_share_their_data(monkeypatch):
    """Groups of no more than FITS_AT_ONCE fits, if more than a candidate has; one X a split, for all candidates."""
    pandas = pytest.importorskip("pandas")
    groups = []

    def fit_together(networks, data):
        groups.append([[id(part) for part in parts[:2]] for parts in data])
        assert all(type(parts[0]) is np.ndarray for parts in data)
        return fit_all(networks, data)

    fit_all = search.fit_together
    monkeypatch.setattr(search, "fit_together", fit_together)
    whole = MLPSearchCV(CLASSIFIER, GRID, cv=3).fit(X, LABELS)
    assert [len(group) for group in groups] == [12] and groups[0] == 4 * groups[0][:3]
    assert len({*sum(groups[0], [])}) == 6
    monkeypatch.setattr(search, "FITS_AT_ONCE", 7)
    assert_same(MLPSearchCV(CLASSIFIER, GRID, cv=3).fit(X, LABELS), whole)
    assert [len(group) for group in groups] == [12, 6, 6]
    MLPSearchCV(CLASSIFIER, GRID, cv=2).fit(pandas.DataFrame(X), LABELS)
    assert [len({*sum(group, [])}) for group in groups[3:]] == [4, 4]


@pytest.mark.parametrize("error_score", [np.nan, -1.0])
def test_fits_that_fail(error_score):
    """Networks and transformers that refuse what they get: FitFailedWarning, and the score that was asked for."""
    pipeline = make_pipeline(PCA(random_state=0), CLASSIFIER)
    grid = {"pca__n_components": [2, 9], "mlpclassifier__hidden_layer_sizes": [(3,), (0,)]}
    for estimator, space in ((CLASSIFIER, {"hidden_layer_sizes": [(3,), (0,)]}), (pipeline, grid)):
        with pytest.warns() as ours:
            found = MLPSearchCV(estimator, space, cv=2, error_score=error_score, return_train_score=True).fit(X, LABELS)
        with pytest.warns() as theirs:
            expected = GridSearchCV(estimator, space, cv=2, error_score=error_score, return_train_score=True)
            assert_same(found, expected.fit(X, LABELS))
        ours, theirs = ([w for w in caught if w.category is FitFailedWarning] for caught in (ours, theirs))
        assert len(ours) == len(theirs) == 1
        heads = [str(w[0].message).split("Below are")[0] for w in (ours, theirs)]
        assert heads[0] == heads[1] and "hidden_layer_sizes must be > 0, got [0]." in str(ours[0].message)


def test_all_fits_fail_or_one_raises():
    bad = {"hidden_layer_sizes": [(0,), (-1,)]}
    with pytest.raises(ValueError, match="All the 4 fits failed"):
        MLPSearchCV(CLASSIFIER, bad, cv=2).fit(X, LABELS)
    estimator = clone(CLASSIFIER)
    ours = MLPSearchCV(estimator, GRID | bad, cv=2, error_score="raise")
    with pytest.raises(ValueError, match=r"hidden_layer_sizes must be > 0, got \[0\]"):
        ours.fit(X, LABELS)
    assert not [name for name in vars(ours) if name.endswith("_")] and ours.estimator is estimator
    with pytest.raises(ValueError, match="Invalid parameter 'alhpa'"):
        MLPSearchCV(CLASSIFIER, {"alhpa": [1]}).fit(X, LABELS)


def test_an_interrupt_ends_the_search(monkeypatch):
    def interrupted(networks, data):
        raise KeyboardInterrupt

    ours = MLPSearchCV(CLASSIFIER, GRID, cv=2).fit(X, LABELS)
    before = dict(vars(ours))
    monkeypatch.setattr(search, "fit_together", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ours.fit(X, LABELS)
    assert vars(ours) == before


@pytest.mark.parametrize(
    "settings, message",
    [
        ({}, "of param_grid and param_distributions neither is given; exactly one is allowed"),
        ({"param_grid": GRID, "param_distributions": GRID}, "both is given"),
        ({"param_grid": GRID, "scoring": ["accuracy"], "halving": True}, "with halving=True one metric is allowed"),
        ({"param_grid": GRID, "scoring": two_metrics, "halving": True}, "scoring returns several metrics"),
        ({"param_grid": GRID, "halving": True, "resource": "alpha"}, "resource can only be 'n_samples'"),
        ({"param_grid": GRID, "factor": 1}, "'factor' parameter"),
        ({"param_grid": GRID, "scoring": ["accuracy"]}, "refit must be set to a scorer key"),
    ],
)
def test_settings_that_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MLPSearchCV(CLASSIFIER, **settings).fit(X, LABELS)


def test_other_estimators_are_refused(monkeypatch):
    """Before any fit, also where a candidate brings them."""
    monkeypatch.setattr(search, "fit_together", None)
    pipeline = make_pipeline(StandardScaler(), CLASSIFIER)

    class Own(MLPClassifier):
        def fit(self, X, y):
            return super().fit(X, y)

    for estimator in (LogisticRegression(), make_pipeline(PCA()), TransformedTargetRegressor(), Own()):
        with pytest.raises(TypeError, match="MLPClassifier and MLPRegressor are allowed.*GridSearchCV"):
            MLPSearchCV(estimator, {"alpha": [1]}).fit(X, LABELS)
    with pytest.raises(TypeError, match="LogisticRegression; MLPClassifier"):
        MLPSearchCV(pipeline, {"mlpclassifier": [CLASSIFIER, LogisticRegression()]}).fit(X, LABELS)


def test_conventions():
    """The estimator stays as it is; searches are cloned, set, pickled; under another back-end they stay here."""
    estimator = clone(CLASSIFIER)
    before = dict(vars(estimator))
    ours = MLPSearchCV(estimator, GRID, cv=2)
    with parallel_config(backend="threading", n_jobs=2):
        ours.fit(X, LABELS)
    assert vars(estimator) == before and ours.estimator is estimator
    again = pickle.loads(pickle.dumps(ours))
    assert np.array_equal(again.predict_proba(X), ours.predict_proba(X))
    assert clone(ours).set_params(estimator__alpha=7, cv=3).get_params()["estimator__alpha"] == 7
    assert not hasattr(clone(ours), "cv_results_")
    tags = get_tags(ours)
    assert tags.estimator_type == "classifier" and tags.classifier_tags.multi_label
    assert tags.transformer_tags is not None  # scikit-learn's checks of an estimator ask for them
    assert_same(ours, GridSearchCV(estimator, GRID, cv=2).fit(X, LABELS))


def test_printing(capsys):
    for verbose in (1, 3):
        GridSearchCV(CLASSIFIER, GRID, cv=2, verbose=verbose, refit=False).fit(X, LABELS)
        theirs = capsys.readouterr().out
        MLPSearchCV(CLASSIFIER, GRID, cv=2, verbose=verbose, refit=False).fit(X, LABELS)
        ours = capsys.readouterr().out
        lines = [[line.split("total time")[0].replace(".", "") for line in out.splitlines()] for out in (ours, theirs)]
        assert lines[0] == lines[1] and len(lines[0]) == (1 if verbose == 1 else 9)


class Tasks:
    """A callback that notes the names of the tasks it is told of."""

    def __init__(self):
        self.names = []

    def setup(self, estimator, context):
        self.names.append("setup")

    def on_fit_task_begin(self, estimator, context, **data):
        self.names.append(f"{type(estimator.estimator).__name__} {context.task_name}")

    def on_fit_task_end(self, estimator, context, **data):
        self.names.append(f"end of {context.task_name}")

    def teardown(self, estimator, context):
        self.names.append("teardown")


def test_callbacks_of_the_search():
    heard = []
    for kind in (GridSearchCV, MLPSearchCV):
        tasks = Tasks()
        kind(CLASSIFIER, GRID, cv=2).set_callbacks(tasks).fit(X, LABELS)
        heard.append(tasks.names)
    assert heard[0] == heard[1] and len(heard[0]) == 2 + 2 * 11
