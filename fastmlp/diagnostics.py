"""Is it right: the gradient check."""

from typing import Any

import numpy as np

from fastmlp.network import Network


def check_gradients(network: Network, X: Any, T: Any, step: float | None = None) -> dict[str, float]:
    """Compare the gradients with central differences of the objective, in float64.

    Parameters
    ----------
    network : Network
        It is not changed; a copy in float64 is checked.
    X : array-like of shape (m, n_in)
    T : array-like of shape (m, n_out), or what `Network.train` takes
    step : float, optional
        Each parameter is moved by this (and twice this), up and down, times max(1, its size): 1e-4 with a formula of
        fourth order; 1e-6 with the plain central difference where there is a ReLU, whose kinks allow no wide steps.

    Returns
    -------
    errors : dict of str to float
        For "weights[0]", "biases[0]", ...: the largest |difference - derivative| over the largest derivative of the
        array (or over 1e-4, where all are smaller). Beyond about 1e-6 something is wrong, unless a ReLU's z is
        within the step of 0.

    Raises
    ------
    TypeError
        When network is none.
    ValueError
        When X and T do not suit it.
    """
    if not isinstance(network, Network):
        raise TypeError(f"network is {type(network).__name__}; a Network is allowed")
    kinks = "relu" in (network.activation, network.output)
    formula = ((1, 1 / 2),) if kinks else ((1, 2 / 3), (2, -1 / 12))
    if step is None:
        step = 1e-6 if kinks else 1e-4
    twin = Network(
        network.sizes, network.activation, network.output, network.loss, network.l2, dtype="float64", random_state=0
    )
    parameters = {
        "weights": [w.astype(np.float64) for w in network.weights],
        "biases": [b.astype(np.float64) for b in network.biases],
    }
    twin.weights, twin.biases = parameters["weights"], parameters["biases"]
    gradients = dict(zip(("weights", "biases"), twin.gradients(X, T), strict=True))
    errors = {}
    for layer in range(len(network.sizes) - 1):
        for kind, arrays in parameters.items():
            array, derivative = arrays[layer], gradients[kind][layer]
            difference = np.empty_like(array)
            for place, value in np.ndenumerate(array):
                h = step * max(1.0, abs(value))
                total = 0.0
                for times, factor in formula:
                    for sign in (1, -1):
                        array[place] = value + sign * times * h
                        setattr(twin, kind, arrays)
                        total += sign * factor * twin.objective(X, T)
                array[place] = value
                difference[place] = total / h
            setattr(twin, kind, arrays)
            scale = max(np.abs(derivative).max(), 1e-4)
            errors[f"{kind}[{layer}]"] = float(np.abs(difference - derivative).max() / scale)
    return errors
