"""Many networks at once: trained together on the same data, spread over threads, or over a GPU's blocks."""

import contextlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

import numba
import numpy as np

from fastmlp import inputs
from fastmlp.backend import SHARING, SLICE_SECONDS, EpochsBase, Passes
from fastmlp.network import Network
from fastmlp.optimizers import Optimizer
from fastmlp.training import DivergenceError, History, Settings, Training, progress_bar

UNFINISHED = object()


def run_together(
    trainings: Sequence[Passes], interrupted: Callable[[Any], bool], kept: type[Exception]
) -> list[Any]:
    """Run what trainings yield side by side; returns, for each, its result, or the exception that it ended with.

    A KeyboardInterrupt is one of these, where it came before a training had begun.

    Each training's passes are run one behind another as by itself; passes of different trainings together, in one call
    each time.

    Parameters
    ----------
    trainings : sequence of Passes
    interrupted : callable
        Says of a result whether Ctrl-C has ended its training, which then ends all of them.
    kept : type
        Exceptions that end their own training only; others are raised, and end all of them.
    """
    from fastmlp.cpu.trainer import Together

    results: list[Any] = [UNFINISHED] * len(trainings)
    waiting: dict[int, EpochsBase] = {}
    together = Together()

    def go_on(n: int, interrupt: BaseException | None = None) -> None:
        """Let a training go on to its next pass, or to its end."""
        waiting.pop(n, None)
        try:
            waiting[n] = next(trainings[n]) if interrupt is None else trainings[n].throw(interrupt)
        except StopIteration as end:
            results[n] = end.value
            if interrupt is None and interrupted(results[n]):
                raise KeyboardInterrupt from None
        except kept as problem:
            results[n] = problem
        except KeyboardInterrupt as problem:
            if interrupt is None:
                raise
            results[n] = problem

    before, SHARING.found = SHARING.found, WeakValueDictionary()
    try:
        try:
            for n in range(len(trainings)):
                go_on(n)
            while waiting:
                for n in _run_some(waiting, together):
                    go_on(n)
        except KeyboardInterrupt as interrupt:
            for n in range(len(trainings)):
                while results[n] is UNFINISHED:
                    go_on(n, interrupt)
    finally:
        SHARING.found = before
        for training in trainings:
            with contextlib.suppress(kept):  # what it ends with now
                training.close()
    return results


def _run_some(waiting: dict[int, EpochsBase], together: Any) -> list[int]:
    """Run passes for about SLICE_SECONDS; returns whose, those that have waited longest first."""
    from fastmlp.cpu.trainer import Epochs

    threads = numba.get_num_threads()
    chosen: list[int] = []
    left = SLICE_SECONDS * threads
    for n, epochs in waiting.items():
        seconds = epochs.seconds()
        if not isinstance(epochs, Epochs):
            chosen.append(n)
            continue
        # what was begun in a room of its own goes on there
        if epochs.done > 0 or seconds > SLICE_SECONDS or (len(waiting) < threads and epochs.shares_well()):
            if chosen:
                continue
            epochs.run_slice()
            return [n]
        if seconds > left and chosen:
            break
        chosen.append(n)
        left -= seconds
    passes = [waiting[n] for n in chosen]
    elsewhere = [epochs for epochs in passes if not isinstance(epochs, Epochs)]
    for epochs in elsewhere:
        epochs.run(epochs.chunks)
    here = [epochs for epochs in passes if isinstance(epochs, Epochs)]
    if here:
        together.run(here)
    for epochs in elsewhere:
        epochs.wait()
    return chosen


# ---- networks ------------------------------------------------------------------------------------------------------


def train_many(
    networks: Sequence[Network],
    X: Any,
    T: Any,
    optimizers: Optimizer | Sequence[Optimizer],
    *,
    batch_size: Any = None,
    epochs: Any = 10,
    subsets: Sequence[Any] | None = None,
    shuffle: Any = True,
    tol: Any = None,
    sample_weight: Any = None,
    validation: tuple[Any, Any] | None = None,
    validation_subsets: Sequence[Any] | None = None,
    patience: Any = None,
    callbacks: Sequence[Callable[[Network, History], Any]] = (),
    progress: bool = False,
) -> list[History]:
    """Train many networks on the same data at once, each as `Network.train` does, to the same bits.

    While one network of a few thousand weights leaves most of a processor idle, many fill it: they are spread over the
    threads, an epoch of all of them in one compiled call, without a barrier inside. On a GPU each has a stream of its
    own, so that small ones, which take one block each, run side by side. For seeds, ensembles, folds of a
    cross-validation, and searches over learning rates, widths or penalties.

    Parameters
    ----------
    networks : sequence of Network
        Of any widths, activations, losses, dtypes and devices; each once. Those that were given one random generator
        draw from it in turn, and not one network after another as in a loop over `train`.
    X, T : array-like or CSR matrix of shape (m, n_in), array-like
        As in `Network.train`, in memory as a whole. They are there once, whatever the number of networks.
    optimizers : GradientDescent, SGD, Adam or LBFGS, or a sequence of them, one a network
        LBFGS, which SciPy steers, trains its network by itself.
    batch_size, epochs, shuffle, tol, patience : as in Network.train, or a sequence, one a network
    subsets : sequence of array of int or of bool, or None, one a network, optional
        Which rows of X and T each network is trained on, as if there were no others; of all where it is None. A row
        may come several times (the bootstrap).
    sample_weight : array-like of shape (m,), optional
        Of the rows of X.
    validation : (X, T), optional
        For all networks, as in `Network.train`.
    validation_subsets : sequence of array of int or of bool, or None, one a network, optional
        Rows of X and T that take validation's place, of each network its own: what a fold leaves out. No validation
        where it is None.
    callbacks : sequence of callables
        Each is called as callback(network, history) after every epoch of every network; a network's training stops
        when one returns True.
    progress : bool, default=False
        Show one progress bar for all.

    Returns
    -------
    histories : list of History
        Of the networks, in order. A network whose training diverges keeps its last finite weights, its history says
        "diverged" in `stopped`, and a RuntimeWarning says which it was; the others go on. Ctrl-C ends all of them.

    Raises
    ------
    ValueError
        When an argument is wrong; no network has been changed then.

    Examples
    --------
    >>> import numpy as np
    >>> import fastmlp
    >>> X = np.linspace(-1, 1, 100)[:, None]
    >>> nets = [fastmlp.Network([1, n, 1], "tanh", "identity", init="glorot", random_state=0) for n in (2, 8, 32)]
    >>> rates = [fastmlp.Adam(0.01), fastmlp.Adam(0.03), fastmlp.Adam(0.1)]
    >>> histories = fastmlp.train_many(nets, X, np.sin(4 * X), rates, epochs=200)
    >>> [history.n_epochs for history in histories]
    [200, 200, 200]
    """
    if isinstance(networks, Network):
        raise ValueError("networks is a Network; a sequence of them is allowed")
    networks = list(networks)
    n = len(networks)
    for k, network in enumerate(networks):
        if not isinstance(network, Network):
            raise ValueError(f"networks[{k}] is {type(network).__name__}; a Network is allowed")
    if len({id(network) for network in networks}) < n:
        raise ValueError("networks has a network several times; each once is allowed")
    if n == 0:
        return []
    if validation is not None and validation_subsets is not None:
        raise ValueError("validation and validation_subsets are given; one of the two is allowed")
    X = inputs.as_examples(X, networks[0].sizes[0])
    T = inputs.as_array(T, "T")
    if X.shape[0] == 0:
        raise ValueError(f"X has shape {X.shape}; at least one row is allowed")
    for dtype in {np.dtype(network.dtype) for network in networks}:
        for data, name in ((X, "X"), (T, "T")):
            error = inputs.not_finite_error(data, dtype, name)
            if error is not None:
                raise error
    each = {
        "optimizers": _for_each("optimizers", optimizers, n),
        "batch_size": _for_each("batch_size", batch_size, n),
        "epochs": _for_each("epochs", epochs, n),
        "shuffle": _for_each("shuffle", shuffle, n),
        "tol": _for_each("tol", tol, n),
        "patience": _for_each("patience", patience, n),
        "subsets": _rows_of_each("subsets", subsets, n, X.shape[0]),
        "held": _rows_of_each("validation_subsets", validation_subsets, n, X.shape[0]),
    }
    with contextlib.ExitStack() as locks:
        for network in sorted(networks, key=id):
            locks.enter_context(network._lock)
        trainings = []
        for k, network in enumerate(networks):
            own = {name: values[k] for name, values in each.items()}
            try:
                settings = Settings(own["shuffle"], own["tol"], validation, own["patience"], callbacks, False)
                trainings.append(
                    Training(
                        network, X, T, own["optimizers"], own["batch_size"], own["epochs"], settings, sample_weight,
                        own["subsets"], own["held"],
                    )  # fmt: skip
                )
            except ValueError as error:
                raise ValueError(f"networks[{k}]: {error}") from None
        return _train(trainings, progress)


def _train(trainings: list[Training], progress: Any) -> list[History]:
    with progress_bar(progress, sum(training.m * training.epochs for training in trainings)) as bar:
        results = run_together(
            [training.passes(bar) for training in trainings],
            interrupted=lambda history: history.stopped == "interrupted",
            kept=DivergenceError,
        )
    diverged = [k for k, result in enumerate(results) if isinstance(result, DivergenceError)]
    for k, result in enumerate(results):
        if isinstance(result, BaseException):  # as alone, the weights are those of then
            results[k] = trainings[k].watch.history
            results[k].stopped = "diverged" if k in diverged else "interrupted"
    if diverged:
        named = ", ".join(map(str, diverged[:10])) + (", ..." if len(diverged) > 10 else "")
        warnings.warn(
            f"the training of networks {named} diverged ({len(diverged)} of {len(trainings)}); their weights are those "
            f"from before the epoch in which it did. Try a smaller learning_rate, or max_gradient_norm",
            RuntimeWarning,
            stacklevel=3,
        )
    return results


def _for_each(name: str, value: Any, n: int) -> list[Any]:
    """A setting of each of n networks, given for all or one by one."""
    if not isinstance(value, (list, tuple, np.ndarray)) or np.ndim(value) == 0:
        return [value] * n
    if len(value) != n:
        raise ValueError(f"{name} has {len(value)} entries; one for each of the {n} networks is allowed")
    return [v.item() if isinstance(v, np.generic) else v for v in value]


def _rows_of_each(name: str, subsets: Any, n: int, m: int) -> list[np.ndarray | None]:
    """The rows of each of n networks, as int64; None for all of the m rows."""
    if subsets is None:
        return [None] * n
    if not np.iterable(subsets):
        raise ValueError(f"{name} is {subsets!r}; a sequence of row numbers, one for each network, is allowed")
    subsets = list(subsets)  # rows of an array too, which would be gone when the next one comes
    if len(subsets) != n:
        raise ValueError(f"{name} has {len(subsets)} entries; one for each of the {n} networks is allowed")
    found: dict[int, np.ndarray] = {}  # folds are often given again and again
    rows: list[np.ndarray | None] = []
    for k, subset in enumerate(subsets):
        if subset is None:
            rows.append(None)
            continue
        if id(subset) not in found:
            found[id(subset)] = _rows(f"{name}[{k}]", subset, m)
        rows.append(found[id(subset)])
    return rows


def _rows(name: str, subset: Any, m: int) -> np.ndarray:
    rows = np.asarray(subset)
    if rows.dtype == bool and rows.shape == (m,):
        rows = np.flatnonzero(rows)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or rows.size == 0:
        raise ValueError(f"{name} is {rows.dtype} {rows.shape}; row numbers, or ({m},) truth values, are allowed")
    if rows.min() < 0 or rows.max() >= m:
        raise ValueError(f"{name} holds row {rows.min() if rows.min() < 0 else rows.max()}; 0 ... {m - 1} are allowed")
    return np.ascontiguousarray(rows, np.int64)


# ---- estimators ----------------------------------------------------------------------------------------------------


def fit_together(estimators: Sequence[Any], data: Sequence[tuple[Any, ...]]) -> list[Exception | None]:
    """Fit many estimators, each to the same bits as by its own `fit`, and spread over the threads.

    Parameters
    ----------
    estimators : sequence of MLPClassifier and MLPRegressor
        Their `n_threads` have no effect; those with callbacks, or a fit of their own, are fitted one by one.
    data : sequence of (X, y) or (X, y, fit_params)
        What each is fitted to; data that are the same objects are in memory once.

    Returns
    -------
    errors : list of Exception or None
        What the fits raised, where they did.
    """
    trainings = [_fitting(estimator, *given) for estimator, given in zip(estimators, data, strict=True)]
    results = run_together(trainings, interrupted=bool, kept=Exception)
    if any(result is True or isinstance(result, KeyboardInterrupt) for result in results):
        raise KeyboardInterrupt
    return [result if isinstance(result, Exception) else None for result in results]


def _fitting(estimator: Any, X: Any, y: Any, fit_params: dict[str, Any] | None = None) -> Passes:
    """A fit; returns whether Ctrl-C has ended it."""
    from fastmlp.estimators import MLPClassifier, MLPRegressor

    if hasattr(estimator, "_skl_callbacks") or type(estimator).fit not in (MLPClassifier.fit, MLPRegressor.fit):
        estimator.fit(X, y, **(fit_params or {}))
        return False
    from sklearn.callback._callback_support import callback_management_context

    estimator._validate_params()
    with callback_management_context(estimator):
        return (yield from estimator._fitting(X, y, **(fit_params or {})))
