"""What a model of scikit-learn's kind has in it: the estimator, and what that one sees of X and y."""

import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import fastmlp
from fastmlp.conversion import fitted_estimator, seen_targets

pytestmark = pytest.mark.filterwarnings("ignore:lbfgs failed to converge")


def table():
    r = np.random.default_rng(0)
    X = 3.0 + r.standard_normal((40, 2))
    return X, 10.0 * X[:, 0] - X[:, 1]


def regressor():
    return fastmlp.MLPRegressor(hidden_layer_sizes=(3,), solver="lbfgs", max_iter=5, random_state=0)


def test_fitted_estimator():
    X, y = table()
    alone = regressor().fit(X, y)
    found, transform = fitted_estimator(alone)
    assert found is alone and transform(X) is X and seen_targets(alone, y) is y
    inner = make_pipeline(MinMaxScaler(), regressor())
    target = TransformedTargetRegressor(inner, transformer=StandardScaler())
    model = GridSearchCV(make_pipeline(StandardScaler(), target), {}, cv=2).fit(X, y)
    found, transform = fitted_estimator(model)
    assert found is model.best_estimator_[-1].regressor_[-1]
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    Z = (Z - Z.min(axis=0)) / (Z.max(axis=0) - Z.min(axis=0))
    np.testing.assert_allclose(transform(X), Z)
    np.testing.assert_allclose(found.predict(transform(X)) * y.std() + y.mean(), model.predict(X))
    np.testing.assert_allclose(seen_targets(model, y), (y - y.mean()) / y.std())


def test_what_is_not_fitted_or_has_no_such_estimator():
    X, y = table()
    fitted = regressor().fit(X, y)
    around = [TransformedTargetRegressor(fitted), GridSearchCV(fitted, {}), make_pipeline(GridSearchCV(fitted, {}))]
    for model in (regressor(), make_pipeline(StandardScaler(), regressor()), *around):
        with pytest.raises(NotFittedError):
            fitted_estimator(model)
    for model in (fastmlp.Network([2, 1]), make_pipeline(StandardScaler()), TransformedTargetRegressor(), None):
        with pytest.raises(TypeError, match=f"estimator is {type(model).__name__}; a fitted fastmlp.MLPClassifier or"):
            fitted_estimator(model)
