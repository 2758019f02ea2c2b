"""The numbers by which kernels know activations, losses and update rules."""

from typing import Any

IDENTITY, LOGISTIC, TANH, RELU, SOFTPLUS, SOFTMAX, EXPONENTIAL, SUPPLIED = range(8)
ACTIVATIONS = {
    "identity": IDENTITY,
    "logistic": LOGISTIC,
    "tanh": TANH,
    "relu": RELU,
    "softplus": SOFTPLUS,
    "softmax": SOFTMAX,
    "exp": EXPONENTIAL,
}
SQUARED_ERROR, LOG_LOSS, POISSON, HUBER, ABSOLUTE_ERROR, SUPPLIED_LOSS = range(6)
LOSSES = {
    "squared_error": SQUARED_ERROR,
    "log_loss": LOG_LOSS,
    "poisson": POISSON,
    "huber": HUBER,
    "absolute_error": ABSOLUTE_ERROR,
}

STORE, EVALUATE, DESCENT, MOMENTUM, NESTEROV, ADAM = range(6)  # rules: what becomes of U and V
RULES = {
    "store": STORE,
    "evaluate": EVALUATE,
    "descent": DESCENT,
    "momentum": MOMENTUM,
    "nesterov": NESTEROV,
    "adam": ADAM,
}


def activation_code(activation: Any) -> int:
    """The number of an activation: a name, or an Activation that a user has supplied."""
    return ACTIVATIONS[activation] if isinstance(activation, str) else SUPPLIED


def loss_code(loss: Any) -> int:
    """The number of a loss: a name, or a Loss that a user has supplied."""
    return LOSSES[loss] if isinstance(loss, str) else SUPPLIED_LOSS
