"""MLPEnsembleClassifier and MLPEnsembleRegressor: averages and spreads of networks, each as if fitted alone."""

import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse
import scipy.stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import fastmlp
from fastmlp import MLPClassifier, MLPEnsembleClassifier, MLPEnsembleRegressor, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((80, 5))
Y = X @ RNG.standard_normal((5, 3)) + 0.3 * RNG.standard_normal((80, 3))
TARGETS = {
    "binary": Y[:, 0] > 0,
    "multiclass": np.array(["ash", "oak", "yew"])[Y.argmax(axis=1)],
    "multilabel": (Y > 0).astype(int),
    "value": Y[:, 0],
    "outputs": Y,
}
SETTINGS = {"hidden_layer_sizes": (6,), "max_iter": 8, "learning_rate_init": 0.03, "batch_size": 20}


def ensemble_of(kind, **more):
    """An ensemble for a kind of target, and this."""
    if kind in ("value", "outputs"):
        return MLPEnsembleRegressor(MLPRegressor(**SETTINGS), n_members=4, random_state=0, **more), TARGETS[kind]
    return MLPEnsembleClassifier(MLPClassifier(**SETTINGS), n_members=4, random_state=0, **more), TARGETS[kind]


def alone(ensemble, y, weights):
    """The members, fitted one at a time with the seeds that an ensemble of scikit-learn would draw."""
    seeds = [member.random_state for member in ensemble.estimators_]
    assert len(set(seeds)) == 4 and all(type(seed) is int for seed in seeds)
    members = [clone(ensemble.estimator).set_params(random_state=seed) for seed in seeds]
    return [member.fit(X, y, sample_weight=weight) for member, weight in zip(members, weights)]


@pytest.mark.parametrize("kind", TARGETS)
def test_average_and_spread(kind):
    """Members to the bit, their average and their spread by NumPy."""
    ensemble, y = ensemble_of(kind)
    members = alone(ensemble.fit(X, y), y, [None] * 4)
    drawn = np.random.RandomState(0)
    expected = [drawn.randint(np.iinfo(np.int32).max) for _ in range(4)]
    assert [member.random_state for member in ensemble.estimators_] == expected
    for found, member in zip(ensemble.estimators_, members):
        assert all(map(np.array_equal, (*found.coefs_, *found.intercepts_), (*member.coefs_, *member.intercepts_)))
    assert ensemble.n_features_in_ == 5 and ensemble.n_outputs_ == members[0].n_outputs_
    if kind in ("value", "outputs"):
        said = np.array([member.predict(X) for member in members])
        found, std = ensemble.predict(X, return_std=True)
        assert np.array_equal(found, ensemble.predict(X)) and found.shape == y.shape
        assert ensemble.score(X, y) > np.mean([member.score(X, y) for member in members])
    else:
        said = np.array([member.predict_proba(X) for member in members])
        found, std = ensemble.predict_proba(X, return_std=True)
        assert np.array_equal(found, ensemble.predict_proba(X))
        assert np.array_equal(ensemble.predict_log_proba(X), np.log(found))
        assert np.array_equal(ensemble.classes_, members[0].classes_)
        labels = (found > 0.5).astype(int) if kind == "multilabel" else ensemble.classes_[found.argmax(axis=1)]
        assert np.array_equal(ensemble.predict(X), labels)
        assert ensemble.predict(X).dtype == members[0].predict(X).dtype
    assert np.array_equal(found, said.mean(axis=0)) and np.array_equal(std, said.std(axis=0)) and std.min() > 0


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_entropy_and_mutual_information(kind):
    """SciPy's entropy of the average, and what of it is the members' disagreement."""
    ensemble, y = ensemble_of(kind)
    p = np.array([member.predict_proba(X) for member in ensemble.fit(X, y).estimators_])
    if kind == "multilabel":
        p = np.stack([1 - p, p], axis=-1)
    total, of_members = scipy.stats.entropy(p.mean(axis=0), axis=-1), scipy.stats.entropy(p, axis=-1).mean(axis=0)
    np.testing.assert_allclose(ensemble.predictive_entropy(X), total, rtol=1e-12)
    np.testing.assert_allclose(ensemble.mutual_information(X), total - of_members, rtol=1e-9, atol=1e-15)
    assert (ensemble.mutual_information(X) > 0).all() and total.max() <= np.log(p.shape[-1])
    for member in ensemble.estimators_[1:]:
        member.coefs_, member.intercepts_ = ensemble.estimators_[0].coefs_, ensemble.estimators_[0].intercepts_
    assert (ensemble.mutual_information(X) < 1e-15).all()


@pytest.mark.parametrize("kind", ["multiclass", "value"])
def test_bootstrap_and_weights(kind):
    """Examples drawn with replacement are weights of 0, 1, 2, ..., times those that are given."""
    given = RNG.random(80)
    for bootstrap, weight in ((True, None), (True, given), (False, given)):
        ensemble, y = ensemble_of(kind, bootstrap=bootstrap)
        ensemble.fit(X, y, sample_weight=weight)
        draws, times = np.random.RandomState(0), []
        for member in ensemble.estimators_:
            assert member.random_state == draws.randint(np.iinfo(np.int32).max)
            times.append(np.bincount(draws.randint(0, 80, 80), minlength=80) if bootstrap else np.ones(80))
        members = alone(ensemble, y, [t if weight is None else t * weight for t in times])
        for found, member in zip(ensemble.estimators_, members):
            assert all(map(np.array_equal, found.coefs_, member.coefs_))


def test_every_member_knows_every_class():
    """Also those of a class whose only example it did not draw."""
    y = np.where(np.arange(80) == 7, "rare", TARGETS["multiclass"])
    ensemble = ensemble_of("multiclass", bootstrap=True)[0].fit(X, y)
    assert [len(member.classes_) for member in ensemble.estimators_] == [4] * 4
    assert ensemble.predict_proba(X).shape == (80, 4)


def test_sparse_frames_and_float32():
    pandas = pytest.importorskip("pandas")
    ensemble, y = ensemble_of("multiclass")
    dense = ensemble.fit(X, y).predict_proba(X)
    assert np.array_equal(ensemble.fit(scipy.sparse.csr_array(X), y).predict_proba(scipy.sparse.csc_array(X)), dense)
    frame = pandas.DataFrame(X, columns=list("abcde"))
    assert np.array_equal(ensemble.fit(frame, pandas.Series(y)).predict_proba(frame), dense)
    assert list(ensemble.feature_names_in_) == list("abcde")
    with pytest.raises(ValueError, match="feature names"):
        ensemble.predict(frame[["b", "a", "c", "d", "e"]])
    assert ensemble.fit(X.astype(np.float32), y).estimators_[0].coefs_[0].dtype == np.float32


def test_one_class_and_a_column():
    ensemble = ensemble_of("binary")[0].fit(X, np.full(80, 3))
    assert ensemble.predict(X[:2]).tolist() == [3, 3]
    regressor, y = ensemble_of("value")
    with pytest.warns(UserWarning, match="column-vector") as caught:
        regressor.fit(X, y[:, None])
    assert sum("column-vector" in str(w.message) for w in caught) == 1 and regressor.predict(X).shape == (80,)


def test_what_is_refused():
    """By the ensemble or by its members; what was fitted before stands."""
    ensemble, y = ensemble_of("multiclass")
    before = dict(vars(ensemble.fit(X, y)))
    for estimator in (LogisticRegression(), MLPRegressor(), make_pipeline(StandardScaler(), MLPClassifier())):
        with pytest.raises(TypeError, match=r"MLPClassifier is allowed \(preprocessing goes before the ensemble"):
            clone(ensemble).set_params(estimator=estimator).fit(X, y)
    for parameters in ({"n_members": 0}, {"bootstrap": "yes"}, {"estimator": 3}):
        with pytest.raises(ValueError, match=f"The '{[*parameters][0]}' parameter"):
            clone(ensemble).set_params(**parameters).fit(X, y)
    with pytest.raises(NotFittedError):
        clone(ensemble).predict(X)
    with pytest.raises(ValueError, match="NaN"):
        ensemble.fit(np.full((80, 4), np.nan), y)
    ensemble.estimator.alpha = -1.0
    with pytest.raises(ValueError, match="'alpha' parameter of MLPClassifier"):
        ensemble.fit(X[:, :4], y)
    assert vars(ensemble) == before
    with pytest.raises(TypeError, match="model is MLPEnsembleClassifier; Network, MLPClassifier and MLPRegressor are"):
        fastmlp.save(ensemble, "ensemble.fastmlp")


def test_conventions():
    """Parameters of the members are the ensemble's; it is pickled, and stands in scikit-learn's tools."""
    ensemble, y = ensemble_of("multiclass")
    ensemble.set_params(estimator__alpha=0.5)
    again = pickle.loads(pickle.dumps(ensemble.fit(X, y)))
    assert np.array_equal(again.predict_proba(X), ensemble.predict_proba(X))
    assert [member.alpha for member in ensemble.estimators_] == [0.5] * 4 and ensemble.estimator.random_state is None
    scores = cross_val_score(make_pipeline(StandardScaler(), ensemble), X, y, cv=2)
    assert np.array_equal(scores, cross_val_score(make_pipeline(StandardScaler(), ensemble), X, y, cv=2))
    assert scores.min() > 0.5
    assert type(MLPEnsembleRegressor(n_members=1).fit(X[:20], Y[:20]).estimators_[0]) is MLPRegressor


def test_estimator_checks():
    """scikit-learn's own checks of an estimator: none fails."""
    settings = {"max_iter": 20, "learning_rate_init": 0.05, "hidden_layer_sizes": (10,)}
    classifier = MLPEnsembleClassifier(MLPClassifier(**settings), n_members=2)
    regressor = MLPEnsembleRegressor(MLPRegressor(**settings), n_members=2)
    for estimator in (classifier, regressor):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = check_estimator(estimator, on_fail=None)
        assert [r["check_name"] for r in results if r["status"] not in ("passed", "skipped")] == []
