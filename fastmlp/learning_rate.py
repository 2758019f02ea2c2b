"""Which learning rate: the range test."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastmlp import inputs
from fastmlp.conversion import as_estimator, network_of, optimizer_batch_size, optimizer_of
from fastmlp.network import Network, _generator
from fastmlp.optimizers import SGD, Adam, GradientDescent, Optimizer
from fastmlp.training import DivergenceError, check_batch_size

SMOOTHING = 0.9  # weight of the losses so far; fastai's 0.98 lags behind where there are a hundred of them
DIVERGED = 4.0  # times the best smoothed loss ends the test, as in fastai
LEAST_STEPS = 20
FIRST = 10  # losses that the mean is to have seen before its lowest is looked for
NOISE = 1.0  # standard deviation of those losses; a mean of many is so much lower only by training
BELOW = 10.0  # the suggestion is the rate of the lowest smoothed loss over this


@dataclass(frozen=True, eq=False, repr=False)
class LearningRateRange:
    """What `find_learning_rate` has found.

    Attributes
    ----------
    learning_rates : ndarray of shape (n,)
        The rates that were tried, until the loss diverged.
    losses : ndarray of shape (n,)
        J (eq. 6) of the minibatch that was trained on with each, before its update.
    smoothed : ndarray of shape (n,)
        Their exponential moving mean, with its start corrected for.
    suggestion : float or None
        A tenth of the rate at which `smoothed` is lowest; None where that is no lower than chance makes the first
        minibatches' losses.
    diverged_at : float or None
        The rate at which it exceeded four times its lowest, or numbers were no longer finite; None when it did not.
    """

    learning_rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float | None
    diverged_at: float | None

    def __repr__(self) -> str:
        if self.suggestion is None:
            found = "No learning rate lowered the loss by more than minibatches differ"
        else:
            found = f"A learning rate of {self.suggestion:.2g} is suggested: the loss is lowest"
            found += f", {self.smoothed[FIRST:].min():.3g}, at {BELOW * self.suggestion:.2g}"
            if self.diverged_at is None and self.smoothed.argmin() == len(self.smoothed) - 1:
                found += ", the highest rate, so that a higher one may do better"
        tried = f"{len(self.learning_rates)} rates"
        if len(self.learning_rates) > 0:
            tried += f" from {self.learning_rates[0]:.2g} to {self.learning_rates[-1]:.2g}"
        if self.diverged_at is None:
            return f"{found}, and did not diverge ({tried} were tried)."
        return f"{found}, and diverged at {self.diverged_at:.2g} ({tried} were tried)."

    def plot(self, ax: Any = None) -> Any:
        """Draw losses over rates; returns a `fastmlp.displays.LearningRateDisplay`.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure when not given.
        """
        from fastmlp.displays import LearningRateDisplay

        return LearningRateDisplay(self).plot(ax=ax)


def find_learning_rate(
    model: Any,
    X: Any,
    T: Any,
    *,
    optimizer: Optimizer | None = None,
    batch_size: int | None = None,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
    random_state: Any = 0,
) -> LearningRateRange:
    """The range test (Smith, 2015, section 3.3): train on minibatch after minibatch with a rate that grows.

    Parameters
    ----------
    model : Network, MLPClassifier or MLPRegressor
        It is not changed; a copy is trained. Of an estimator, fitted or not, it is the network that `fit` would start
        from.
    X : array-like or CSR matrix of shape (m, n_in)
    T : array-like
        Targets, (m, n_out) or what `Network.train` takes; y of an estimator.
    optimizer : SGD, Adam or GradientDescent, optional
        For a Network; its learning rate does not matter. When not given, the one that the network was last trained
        with, or Adam(). An estimator has its own solver.
    batch_size : int >= 1, optional
        For a Network, with SGD or Adam: min(200, m) when not given. An estimator has its own.
    lowest, highest : float > 0, default=1e-6, 10.0
        The first rate and the last; those between are spaced evenly in their logarithm.
    steps : int >= 20, default=100
        How many rates, each for one update.
    random_state : None, int, numpy Generator or RandomState, default=0
        Draws the order of the examples; and an estimator's start, where that has random_state=None.

    Returns
    -------
    found : LearningRateRange
        Its `suggestion` is for the learning_rate of the optimizer, or for an estimator's learning_rate_init; `plot()`
        draws it.

    Raises
    ------
    TypeError
        When model is none.
    ValueError
        When an argument is wrong, or an estimator's solver has no learning rate.

    Notes
    -----
    The losses are smoothed, and the test ends, as in fastai's lr_find (Howard and Gugger, 2020): at four times the best
    smoothed loss. The rate at which it is lowest is where training is about to diverge, hence a tenth of it.

    An estimator's weights of classes are not taken into account.

    Examples
    --------
    >>> import fastmlp
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> net = fastmlp.Network(
    ...     [64, 32, 10], activation="relu", output="softmax", loss="log_loss", init="he", random_state=0
    ... )
    >>> found = fastmlp.find_learning_rate(net, X / 16, y, optimizer=fastmlp.Adam(), batch_size=32)
    >>> 1e-3 < found.suggestion < 1e-1
    True
    """
    rates = _rates(lowest, highest, steps)
    chosen: Any
    rng = _generator(random_state)
    if isinstance(model, Network):
        network, chosen = _copy(model, optimizer)
        X, T, _ = network._data(X, T, None)
        batch_size = check_batch_size(batch_size, chosen, X.shape[0])
    else:
        for name, value in (("optimizer", optimizer), ("batch_size", batch_size)):
            if value is not None:
                raise ValueError(f"{name} is {value!r}; an estimator has its own: None is allowed")
        network, X, T = _start(as_estimator(model), X, T, rng)
        chosen = optimizer_of(model)
        batch_size = optimizer_batch_size(model, X.shape[0]) or X.shape[0]
    for data, name in ((X, "X"), (T, "T")):
        error = inputs.not_finite_error(data, np.dtype(network.dtype), name)
        if error is not None:
            raise error
    growing = replace(chosen, learning_rate=lambda epoch: rates[epoch])
    each = None if isinstance(chosen, GradientDescent) else batch_size
    losses: list[float] = []
    smoothed: list[float] = []
    mean, best, diverged_at = 0.0, math.inf, None
    for rate, rows in zip(rates, _minibatches(X.shape[0], batch_size, rng)):
        batch = (X, T) if rows is None else (X[rows], T[rows])
        try:  # one call is one epoch of the schedule; the optimizer stays the same, so that its state goes on
            history = network.train(*batch, optimizer=growing, batch_size=each, epochs=1)
        except DivergenceError:
            diverged_at = rate
            break
        if history.stopped == "interrupted":
            raise KeyboardInterrupt
        losses.append(history.objective[0])
        mean = SMOOTHING * mean + (1 - SMOOTHING) * losses[-1]
        smoothed.append(mean / (1 - SMOOTHING ** len(losses)))
        best = min(best, smoothed[-1])
        if smoothed[-1] > best + (DIVERGED - 1) * abs(best):  # some losses are negative
            diverged_at = rate
            break
    start, later = np.array(losses[:FIRST]), np.array(smoothed[FIRST:])
    fell = len(later) > 0 and later.min() < start.mean() - NOISE * np.diff(start).std() / math.sqrt(2)
    suggestion = rates[FIRST + int(later.argmin())] / BELOW if fell else None
    return LearningRateRange(
        np.array(rates[: len(losses)]), np.array(losses), np.array(smoothed), suggestion, diverged_at
    )


def _rates(lowest: Any, highest: Any, steps: Any) -> list[float]:
    for name, value in (("lowest", lowest), ("highest", highest)):
        if not (isinstance(value, (int, float, np.number)) and 0 < value < math.inf):
            raise ValueError(f"{name} is {value!r}; a finite number > 0 is allowed")
    if lowest >= highest:
        raise ValueError(f"lowest is {lowest} and highest is {highest}; lowest < highest is allowed")
    if not inputs.is_whole(steps) or steps < LEAST_STEPS:
        raise ValueError(f"steps is {steps!r}; an integer >= {LEAST_STEPS} is allowed")
    return np.geomspace(lowest, highest, int(steps)).tolist()


def _copy(model: Network, optimizer: Any) -> tuple[Network, Any]:
    """A copy to be trained, and the optimizer to train it with."""
    if optimizer is None:
        optimizer = Adam() if model._optimizer is None else model._optimizer
    if not isinstance(optimizer, (GradientDescent, SGD, Adam)):
        raise ValueError(f"optimizer is {optimizer!r}; a GradientDescent, SGD or Adam object is allowed")
    return copy.deepcopy(model), optimizer


def _start(estimator: Any, X: Any, y: Any, rng: Any) -> tuple[Network, Any, Any]:
    """The network that a fit would start from, and X and T as it takes them."""
    from sklearn.base import clone
    from sklearn.utils import check_random_state

    if estimator.solver == "lbfgs":
        raise ValueError("solver is 'lbfgs', which has no learning rate; 'sgd', 'adam', 'adamw' and 'gd' are allowed")
    if estimator.warm_start and hasattr(estimator, "coefs_"):
        X, y = estimator._validate(X, y, reset=False)
        estimator._check_more(y)
        start = estimator
    else:
        start = clone(estimator)
        start._validate_params()
        start._check_combinations(False)
        X, y = start._validate(X, y, reset=True)
        start._take_classes(y, False)
        start._check_more(y)
    T = start._targets(y)
    if start is not estimator:
        sizes = start.hidden_layer_sizes
        hidden = [int(n) for n in (sizes if hasattr(sizes, "__iter__") else [sizes])]
        start.n_outputs_ = T.shape[1] if T.ndim == 2 else len(start.classes_)
        seed = int(rng.integers(2**31) if hasattr(rng, "integers") else rng.randint(2**31 - 1))
        start._random_state = check_random_state(seed if start.random_state is None else start.random_state)
        single = X.dtype == np.float32 or start.precision != "float32"
        dtype = np.dtype(np.float32 if single else np.float64)
        start._initialize([X.shape[1], *hidden, start.n_outputs_], dtype)
    network = network_of(start, X.shape[0])
    X, T, _ = network._data(X, T, None)
    return network, X, T


def _minibatches(m: int, batch_size: int, rng: Any) -> Iterator[np.ndarray | None]:
    """Rows of one minibatch after another, without end, in a new order whenever all have been seen; None for all."""
    while True:
        order = None if batch_size >= m else rng.permutation(m)
        for begin in range(0, m - batch_size + 1, batch_size):
            yield None if order is None else order[begin : begin + batch_size]
