"""Is it right: the gradient check."""

import functools
import math
from typing import Any

import numpy as np

from fastmlp import formulas, inputs
from fastmlp.network import Network
from fastmlp.supplied import Activation, Loss, slopes_compared
from fastmlp.supplied import value as value_of

JUMP = 1e-3  # what a derivative changes by across a kink, relative to it beyond 1; a smooth one changes by far less
MARGIN = 2.0  # how many times as far as the first order says z is taken to move: the rest is of second order
PATHS = 1 << 21  # derivatives of units by units that are held at a time


def check_gradients(
    network: Any, X: Any = None, T: Any = None, step: float | None = None, *, entries: int | None = None
) -> dict[str, float]:
    """Compare the gradients with central differences of the objective, in float64.

    Parameters
    ----------
    network : Network, or an Activation or a Loss of your own
        It is not changed; a copy in float64 is checked. Of an Activation or a Loss df is checked, without X and T, as
        it was when the piece was made.
    X : array-like of shape (m, n_in)
    T : array-like of shape (m, n_out), or what `Network.train` takes
    step : float > 0, optional
        Each parameter is moved by this (and twice this), up and down, times max(1, its size): 1e-4 with a formula of
        fourth order; 1e-6 with the plain central difference where there is a ReLU or a function of the user's own,
        whose kinks allow no wide steps.

    entries : int >= 1, optional
        How many of each array are checked, drawn with a fixed seed, for a check of all takes two or four objectives
        each; all when not given.

    Returns
    -------
    errors : dict of str to float
        For "weights[0]", "biases[0]", ...: the largest |difference - derivative| over the largest derivative of the
        array (or over 1e-4, where all are smaller). Beyond about 1e-6 something is wrong. Of an Activation or a Loss
        "df" alone, relative to df where it is beyond 1.

    Raises
    ------
    TypeError
        When network is none of these.
    ValueError
        When X and T do not suit it, or every example is too near a kink to say anything.

    Notes
    -----
    At a kink of f, such as ReLU's at z = 0, central differences give the mean of the slopes on both sides, and the
    network one of them: neither is wrong. Examples with a unit whose f' (or an output whose loss' derivative) jumps
    within reach of the step are therefore left out; a row of zeros with biases of zero is one. The reach is found layer
    by layer, for each example: z of the layer's own units moves by the step times the largest |a| below it (or by the
    step, for the bias), that of units above by this times dz/dz along the network, eq. 7 differentiated. Twice that is
    taken, for what is of second order in the step: where no unit so far has a kink within reach, f' hardly changes on
    the way, and the first order is right.

    Examples
    --------
    >>> import numpy as np
    >>> import fastmlp
    >>> net = fastmlp.Network([3, 4, 2], activation="relu", init="he", random_state=0)
    >>> errors = fastmlp.check_gradients(net, np.eye(3), np.ones((3, 2)))
    >>> max(errors.values()) < 1e-6
    True
    """
    if isinstance(network, (Activation, Loss)):
        smooth = [(df, found) for _, df, found, _ in slopes_compared(network) if not math.isnan(found)]
        return {"df": max(abs(df - found) / max(1.0, abs(df)) for df, found in smooth)}
    if not isinstance(network, Network):
        raise TypeError(f"network is {type(network).__name__}; a Network, an Activation or a Loss is allowed")
    pieces = network.activation, network.output, network.loss
    kinks = any(piece == "relu" or not isinstance(piece, str) for piece in pieces)
    formula = ((1, 1 / 2),) if kinks else ((1, 2 / 3), (2, -1 / 12))
    if step is None:
        step = 1e-6 if kinks else 1e-4
    elif not (isinstance(step, (int, float, np.number)) and 0 < step < math.inf):
        raise ValueError(f"step is {step!r}; None or a finite number > 0 is allowed")
    if entries is not None and not (inputs.is_whole(entries) and entries >= 1):
        raise ValueError(f"entries is {entries!r}; None or an integer >= 1 is allowed")
    rng = np.random.default_rng(0)
    twin = Network(network.sizes, *pieces, network.l2, dtype="float64", random_state=0)
    parameters = {
        "weights": [w.astype(np.float64) for w in network.weights],
        "biases": [b.astype(np.float64) for b in network.biases],
    }
    twin.weights, twin.biases = parameters["weights"], parameters["biases"]
    X, T, _ = twin._data(X, T, None)
    if kinks:
        kept = np.flatnonzero(~_near_kinks(twin, X, T, step))
        if len(kept) == 0:
            raise ValueError(
                f"each of the {X.shape[0]} rows of X brings a unit within reach of a kink, where differences tell "
                "nothing of a derivative; other rows, a smaller step, or biases other than zero are allowed"
            )
        X, T = X[kept], T[kept]
    gradients = dict(zip(("weights", "biases"), twin.gradients(X, T), strict=True))
    errors = {}
    for layer in range(len(network.sizes) - 1):
        for kind, arrays in parameters.items():
            array, derivative = arrays[layer], gradients[kind][layer]
            difference = derivative.copy()
            number = array.size if entries is None else min(int(entries), array.size)
            for flat in rng.permutation(array.size)[:number]:
                place = np.unravel_index(flat, array.shape)
                value = float(array[place])
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


def _near_kinks(network: Network, X: Any, T: Any, step: float) -> np.ndarray:
    """(m,) bool: whether an example brings a unit, or the loss, so near a kink that moving one parameter may cross it.

    Parameters
    ----------
    network : Network
    X : array or CSR matrix of shape (m, n_in)
    T : array of shape (m, n_out); anything with a loss that is named
    step : float
        Each parameter moves by it times max(1, its size).
    """
    near = np.zeros(X.shape[0], bool)
    rows = max(1, PATHS // sum(network.sizes[1:]) ** 2)
    for begin in range(0, len(near), rows):
        part = slice(begin, begin + rows)
        near[part] = _near_kinks_of_few(network, X[part], T[part], step)
    return near


def _near_kinks_of_few(network: Network, X: Any, T: Any, step: float) -> np.ndarray:
    near = np.zeros(X.shape[0], bool)
    below = np.asarray(X.toarray() if inputs.is_sparse(X) else X, np.float64)
    paths: list[tuple[np.ndarray, np.ndarray]] = []  # for each layer so far: its move (m,), dz/dz (m, n_p, n_l)
    passed = network.layers(X)
    for l, ((z, a), W, b) in enumerate(zip(passed, network.weights, network.biases)):
        last = l == len(passed) - 1
        f = network.output if last else network.activation
        own = step * max(1.0, np.abs(W).max(), np.abs(b).max()) * np.maximum(1.0, np.abs(below).max(axis=1))
        paths = [(move, by @ W) for move, by in paths]
        reach = np.repeat(own[:, None], z.shape[1], axis=1)
        for move, by in paths:
            reach = np.maximum(reach, move[:, None] * np.abs(by).max(axis=1))
        reach *= MARGIN
        near |= _jumps(f, z, reach).any(axis=1)
        if last and isinstance(network.loss, str):
            break
        slope = slope_of(f, z, a)
        if last:
            near |= _jumps(network.loss, a, np.abs(slope) * reach, np.asarray(T, np.float64)).any(axis=1)
            break
        paths.append((own, np.broadcast_to(np.eye(z.shape[1]), (len(z), z.shape[1], z.shape[1]))))
        paths = [(move, by * slope[:, None, :]) for move, by in paths]
        below = a
    return near


def _jumps(piece: Any, x: np.ndarray, reach: np.ndarray, *y: np.ndarray) -> np.ndarray:
    """Where the derivative of an activation (or a loss, with y) jumps between x - reach and x + reach; x's shape."""
    if isinstance(piece, str):  # of those that have names, only relu has a kink
        return np.abs(x) <= reach if piece == "relu" else np.zeros(x.shape, bool)
    df = _on_arrays(piece.df)
    low, high = df(x - reach, *y), df(x + reach, *y)
    return ~(np.abs(high - low) <= JUMP * np.maximum(1.0, np.abs(high)))  # NaN is a jump


def slope_of(activation: Any, z: np.ndarray, a: np.ndarray) -> np.ndarray:
    """f'(z) (eq. 1-3), of a's shape."""
    if not isinstance(activation, str):
        return _on_arrays(activation.df)(z)
    derivative = getattr(formulas, f"{activation}_derivative")
    return derivative(a) if activation in ("identity", "logistic", "tanh") else _on_arrays(derivative)(a)


def _on_arrays(function: Any) -> Any:
    """A function of numbers as one of arrays; NaN where it has no value."""

    vectorized = np.vectorize(functools.partial(value_of, function), otypes=[np.float64])

    def on_arrays(*x: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # which NumPy says of NaN
            return vectorized(*x)

    return on_arrays
