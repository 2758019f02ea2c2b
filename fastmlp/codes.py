"""The numbers by which kernels know activations, losses and update rules."""

IDENTITY, LOGISTIC, TANH, RELU, SOFTPLUS, SOFTMAX, EXPONENTIAL = range(7)
ACTIVATIONS = {
    "identity": IDENTITY,
    "logistic": LOGISTIC,
    "tanh": TANH,
    "relu": RELU,
    "softplus": SOFTPLUS,
    "softmax": SOFTMAX,
    "exp": EXPONENTIAL,
}
SQUARED_ERROR, LOG_LOSS, POISSON, HUBER, ABSOLUTE_ERROR = range(5)
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
