"""Optimizers: settings only. Their state lives in the network, their arithmetic in the kernels."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

LearningRate = float | Callable[[int], float]


def _check(optimizer: Any, name: str, allowed: str, holds: Callable[[float], bool]) -> None:
    value = getattr(optimizer, name)
    try:
        right = not isinstance(value, (str, bytes)) and math.isfinite(value) and holds(value)
    except (TypeError, OverflowError):
        right = False
    if not right:
        raise ValueError(f"{type(optimizer).__name__}: {name} is {value!r}; {allowed} is allowed")


def _check_learning_rate(optimizer: Any) -> None:
    if not callable(optimizer.learning_rate):
        _check(optimizer, "learning_rate", "a finite number >= 0 or a callable of the epoch", lambda x: x >= 0)


def _check_common(optimizer: Any) -> None:
    _check_learning_rate(optimizer)
    _check(optimizer, "weight_decay", "a finite number >= 0", lambda x: x >= 0)
    if optimizer.max_gradient_norm is not None:
        _check(optimizer, "max_gradient_norm", "None or a finite number > 0", lambda x: x > 0)


@dataclass(frozen=True)
class GradientDescent:
    """The lecture's algorithm (eq. 12-13): one update an epoch, from U and V over all m examples.

    Parameters
    ----------
    learning_rate : float or callable
        alpha, or a function of the epoch (0, 1, ...) that returns it.

    Examples
    --------
    >>> import numpy as np
    >>> import fastmlp
    >>> net = fastmlp.Network([1, 1], output="identity", dtype="float64", random_state=0)
    >>> net.weights, net.biases = [[[0.0]]], [[0.0]]
    >>> history = net.train(np.ones((3, 1)), np.ones((3, 1)), optimizer=fastmlp.GradientDescent(0.5), epochs=1)
    >>> net.weights[0], net.biases[0]  # from 0 half the way of the gradient, which is -1
    (array([[0.5]]), array([0.5]))
    """

    learning_rate: LearningRate

    def __post_init__(self) -> None:
        _check_learning_rate(self)


@dataclass(frozen=True)
class SGD:
    """Gradient descent on minibatches, with scikit-learn's momentum.

    velocity <- momentum * velocity - learning_rate * gradient; W <- W + velocity. With Nesterov's momentum W takes
    momentum * velocity - learning_rate * gradient instead, velocity being the new one.

    Parameters
    ----------
    learning_rate : float or callable
        A number, or a function of the epoch (0, 1, ...) that returns it.
    momentum : float in [0, 1), default=0.0
    nesterov : bool, default=False
        Only has an effect with momentum > 0.
    weight_decay : float, default=0.0
        Decoupled: every update also takes learning_rate * weight_decay * W from the weights (not the biases).
    max_gradient_norm : float, optional
        A longer gradient (Euclidean, over all weights and biases) is scaled down to this length.

    Examples
    --------
    >>> import fastmlp
    >>> optimizer = fastmlp.SGD(lambda epoch: 0.1 * 0.9**epoch, momentum=0.9, nesterov=True)
    >>> round(optimizer.learning_rate(2), 3)
    0.081
    """

    learning_rate: LearningRate
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = field(default=0.0, kw_only=True)
    max_gradient_norm: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        _check_common(self)
        _check(self, "momentum", "a number in [0, 1)", lambda x: 0 <= x < 1)
        _check(self, "nesterov", "True or False", lambda x: isinstance(x, (bool, np.bool_)))


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba, 2015) on minibatches, with scikit-learn's place for epsilon.

    W <- W - learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * mean / (sqrt(square) + epsilon) after t updates.

    Parameters
    ----------
    learning_rate : float or callable, default=1e-3
        A number, or a function of the epoch (0, 1, ...) that returns it.
    beta_1, beta_2 : float in [0, 1), default=0.9, 0.999
        Decay of the means of the gradient and of its square.
    epsilon : float > 0, default=1e-8
        Keeps the division from zero. At least 1.1e-19 in float32 and 1.5e-154 in float64: the squares of smaller
        gradients are zero.
    weight_decay : float, default=0.0
        Decoupled (AdamW): every update also takes learning_rate * weight_decay * W from the weights (not the biases).
    max_gradient_norm : float, optional
        A longer gradient (Euclidean, over all weights and biases) is scaled down to this length.

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.Adam(3e-4, weight_decay=0.01)  # AdamW
    Adam(learning_rate=0.0003, beta_1=0.9, beta_2=0.999, epsilon=1e-08, weight_decay=0.01, max_gradient_norm=None)
    """

    learning_rate: LearningRate = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = field(default=0.0, kw_only=True)
    max_gradient_norm: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        _check_common(self)
        _check(self, "beta_1", "a number in [0, 1)", lambda x: 0 <= x < 1)
        _check(self, "beta_2", "a number in [0, 1)", lambda x: 0 <= x < 1)
        _check(self, "epsilon", "a finite number > 0", lambda x: x > 0)


@dataclass(frozen=True)
class LBFGS:
    """SciPy's L-BFGS-B over all m examples; one iteration an epoch. It also stops by itself, at a minimum.

    Parameters
    ----------
    memory : int >= 1, default=10
        Corrections that approximate the Hessian.
    max_evaluations : int >= 1, default=15000
        Evaluations of objective and gradient in one call of train.
    gradient_tolerance : float >= 0, default=1e-5
        It stops when no entry of the gradient is larger.
    objective_tolerance : float >= 0, default=2.2e-9
        It stops when an iteration lowers the objective by less than this, relatively.

    Examples
    --------
    >>> import numpy as np
    >>> import fastmlp
    >>> X = np.linspace(-1, 1, 50)[:, None]
    >>> net = fastmlp.Network([1, 8, 1], "tanh", "identity", init="glorot", dtype="float64", random_state=0)
    >>> history = net.train(X, X**2, optimizer=fastmlp.LBFGS(), epochs=200)
    >>> bool(net.objective(X, X**2) < 1e-5)
    True
    """

    memory: int = 10
    max_evaluations: int = 15000
    gradient_tolerance: float = 1e-5
    objective_tolerance: float = 2.2e-9

    def __post_init__(self) -> None:
        for name in ("memory", "max_evaluations"):
            _check(self, name, "an integer >= 1", lambda x: x >= 1 and x == int(x))
        for name in ("gradient_tolerance", "objective_tolerance"):
            _check(self, name, "a finite number >= 0", lambda x: x >= 0)


Optimizer = GradientDescent | SGD | Adam | LBFGS
MOMENTS = {"descent": 0, "momentum": 1, "nesterov": 1, "adam": 2}  # arrays of state for each array of parameters


def rule(optimizer: Optimizer) -> str:
    """The update rule that the kernels know it by."""
    if isinstance(optimizer, Adam):
        return "adam"
    if isinstance(optimizer, SGD) and optimizer.momentum > 0:
        return "nesterov" if optimizer.nesterov else "momentum"
    return "descent"


def moments(optimizer: Optimizer) -> int:
    """How many arrays of state it keeps for each array of parameters."""
    return MOMENTS[rule(optimizer)]
