"""An estimator as a Network with its weights, for those who look at either."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp import devices
from fastmlp.network import Network
from fastmlp.optimizers import LBFGS, SGD, Adam, GradientDescent, Optimizer

if TYPE_CHECKING:
    from fastmlp.estimators import MLPClassifier, MLPRegressor


def as_estimator(model: Any) -> "MLPClassifier | MLPRegressor":
    """The model, where it is one of this package's estimators; a TypeError otherwise."""
    from fastmlp.estimators import MLPClassifier, MLPRegressor

    if not isinstance(model, (MLPClassifier, MLPRegressor)):
        raise TypeError(f"model is {type(model).__name__}; a Network, an MLPClassifier or an MLPRegressor is allowed")
    return model


def nested(model: Any) -> list[Any]:
    """The model and what is in it, from the outside in: of a Pipeline, a TransformedTargetRegressor, a search."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.model_selection._search import BaseSearchCV
    from sklearn.pipeline import Pipeline

    if isinstance(model, Pipeline):
        return [model, *nested(model.steps[-1][1])]
    if isinstance(model, TransformedTargetRegressor):
        return [model, *nested(getattr(model, "regressor_", model.regressor))]
    if isinstance(model, BaseSearchCV):
        return [model, *nested(getattr(model, "best_estimator_", model.estimator))]
    return [model]


def fitted_estimator(model: Any) -> "tuple[MLPClassifier | MLPRegressor, Callable[[Any], Any]]":
    """The fitted estimator of this package that a model is or has in it, and what makes X into what that one sees.

    Parameters
    ----------
    model : fitted MLPClassifier or MLPRegressor
        Alone or in a Pipeline, a TransformedTargetRegressor or a search, or several of them.

    Returns
    -------
    estimator : MLPClassifier or MLPRegressor
    transform : callable
        X, as the model takes it, through the steps before the estimator; X itself where there are none.

    Raises
    ------
    TypeError
        When there is no such estimator.
    NotFittedError
        When it, or what it is in, is not fitted.
    """
    from sklearn.pipeline import Pipeline
    from sklearn.utils.validation import check_is_fitted

    from fastmlp.estimators import MLPClassifier, MLPRegressor

    *outer, estimator = nested(model)
    if not isinstance(estimator, (MLPClassifier, MLPRegressor)):
        places = "alone or in a Pipeline, a TransformedTargetRegressor or a search"
        allowed = f"a fitted fastmlp.MLPClassifier or MLPRegressor, {places}, is allowed"
        raise TypeError(f"estimator is {type(model).__name__}; {allowed}")
    check_is_fitted(estimator, "coefs_")
    for around in outer:
        for name, fitted in (("regressor", "regressor_"), ("estimator", "best_estimator_")):
            if hasattr(around, name):  # what is in it may be fitted where it is not
                check_is_fitted(around, fitted)
    before = [around[:-1] for around in outer if isinstance(around, Pipeline) and len(around.steps) > 1]

    def transform(X: Any) -> Any:
        for steps in before:
            X = steps.transform(X)
        return X

    return estimator, transform


def seen_targets(model: Any, y: Any) -> Any:
    """What the estimator in a fitted model sees of y: a TransformedTargetRegressor transforms it."""
    for around in nested(model):
        if hasattr(around, "transformer_"):
            y = np.asarray(y)
            seen = around.transformer_.transform(y.reshape(-1, 1) if y.ndim == 1 else y)
            y = seen[:, 0] if seen.ndim == 2 and seen.shape[1] == 1 else seen
    return y


def network_of(estimator: Any, m: int) -> Network:
    """A Network with an estimator's weights, that is trained on m examples as the estimator is.

    Its loss and output may be those that only a regressor has.
    """
    batch_size = optimizer_batch_size(estimator, m)
    l2 = estimator.alpha / (batch_size or m) if estimator.l2 is None else estimator.l2
    precision = estimator.precision
    if estimator._dtype() != np.float32 or devices.precision_problem(precision, "cpu") is not None:
        precision = "float32"  # as it predicts
    network = Network(
        estimator._sizes(),
        estimator._f(),
        "identity",
        "squared_error",
        l2,
        dtype=estimator._dtype(),
        dropout=estimator.dropout,
        precision=precision,
        random_state=0,
    )
    network._output = estimator.out_activation_
    network._loss = estimator._loss()
    network._trainer = network._make_trainer(network._device)
    network.weights, network.biases = estimator.coefs_, estimator.intercepts_
    return network


def examples_of(estimator: Any, X: Any, y: Any) -> tuple[Any, Any]:
    """X and T as the kernels take them, of data like those that an estimator was fitted to."""
    X, y = estimator._validate(X, y, reset=False)
    estimator._check_more(y)
    return X, estimator._targets(y)


def optimizer_of(estimator: Any) -> Optimizer:
    """The optimizer of an estimator's solver, at learning_rate_init."""
    solver, rate = estimator.solver, float(estimator.learning_rate_init)
    if solver == "lbfgs":
        return LBFGS()
    if solver == "gd":
        return GradientDescent(rate)
    norm = estimator.max_gradient_norm
    if solver == "sgd":
        momentum = min(estimator.momentum, 1 - 2.0**-24)  # 1 is an estimator's, but no SGD's
        return SGD(rate, momentum, estimator.nesterovs_momentum, max_gradient_norm=norm)
    decay = estimator.weight_decay if solver == "adamw" else 0.0
    betas = estimator.beta_1, estimator.beta_2, estimator.epsilon
    return Adam(rate, *betas, weight_decay=decay, max_gradient_norm=norm)


def optimizer_batch_size(estimator: Any, m: int) -> int | None:
    """The examples of a minibatch; None for the solvers that take all of them."""
    if estimator.solver in ("gd", "lbfgs"):
        return None
    return min(200 if estimator.batch_size == "auto" else int(estimator.batch_size), m)
