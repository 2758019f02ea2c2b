"""What a training will cost: `estimate` says how long it takes here, and how much memory, before it is begun."""

import copy
import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastmlp.conversion import network_of, optimizer_batch_size, optimizer_of
from fastmlp.inputs import NUMBERS, is_whole
from fastmlp.network import Network
from fastmlp.optimizers import LBFGS, SGD, GradientDescent
from fastmlp.training import DivergenceError, check_batch_size

# A trial takes about so long; the first one finds out how many examples that is.
TRIAL_SECONDS = 0.5
FIRST_ROWS = 1024
MOST_BYTES = 1 << 26  # of a trial's X: more than caches hold
EPOCHS = 5  # of a trial, at the least: their median counts


def training_operations(sizes: Sequence[int]) -> int:
    """Floating-point operations to train on one example: three products a layer, but none back to the inputs."""
    weights = [n_in * n_out for n_in, n_out in zip(sizes, sizes[1:])]
    return 6 * sum(weights) - 2 * weights[0]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a training is expected to cost; printed, it is a sentence or two.

    Attributes
    ----------
    sizes : tuple of int
    m, batch_size, epochs : int
    seconds : float
        Of the whole training.
    seconds_an_epoch : float
    memory : int
        Bytes that the network and its training take: weights, optimizer, and the room for a chunk of examples.
    data : int
        Bytes of X and T, which are never copied whole.
    operations : int
        Floating-point operations of an epoch: those of its matrix products.
    peak : float or None
        Operations a second that this machine does at most with the threads in use, measured; None of a GPU.
    share : float or None
        Of the peak that the training reaches; small where networks or minibatches are.
    threads : int
    dtype, precision, device : str
    """

    sizes: tuple[int, ...]
    m: int
    batch_size: int
    epochs: int
    seconds: float
    seconds_an_epoch: float
    memory: int
    data: int
    operations: int
    peak: float | None
    share: float | None
    threads: int
    dtype: str
    precision: str
    device: str

    def __str__(self) -> str:
        shape, rate = "-".join(map(str, self.sizes)), self.operations / self.seconds_an_epoch / 1e9
        of_peak, numbers = "", self.dtype if self.precision == "float32" else self.precision
        if self.peak is not None:
            of_peak = f", {self.share:.0%} of the {self.peak / 1e9:.0f} that {self.threads} thread(s) reach here"
        return (
            f"{self.epochs} epochs of {shape} in {numbers}, {self.m:,} examples in minibatches of "
            f"{self.batch_size:,}: about {_duration(self.seconds)} ({_duration(self.seconds_an_epoch)} an epoch; "
            f"{rate:.3g} GFLOP/s{of_peak}).\n"
            f"Memory: {_size(self.memory)} beside {_size(self.data)} of X and T."
        )


def _duration(seconds: float) -> str:
    for unit, length in (("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def _size(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} bytes"


def estimate(
    sizes: Any,
    m: int,
    batch_size: int | None = None,
    epochs: int = 1,
    *,
    optimizer: Any = None,
    dtype: str = "float32",
    x_dtype: Any = None,
    device: str = "cpu",
    precision: str = "float32",
) -> Estimate:
    """Predict the time and memory of a training on this machine, with the threads in use.

    The network is trained on made-up examples for about half a second: as many of them as that allows, all m if they
    are few. The pace is then that of the kernels at these widths and this minibatch size, whatever bounds it; the peak
    of the machine's multiply-add units is measured beside it, and the share that is reached.

    Parameters
    ----------
    sizes : sequence of int, or Network, or fitted MLPClassifier or MLPRegressor
        Widths of the layers, of a network as `Network` makes it by default; or a network or an estimator, which is not
        changed.
    m : int >= 1
        Examples.
    batch_size : int >= 1, optional
        As for `Network.train`.
    epochs : int >= 0, default=1
    optimizer : GradientDescent, SGD, Adam or LBFGS, optional
        SGD when not given, or what the network was last trained with; an estimator has its own, and its batch_size. An
        iteration of LBFGS is taken as one evaluation.
    dtype : {"float32", "float64"}, default="float32"
        Of the network; that of a given one counts.
    x_dtype : dtype, optional
        Of X: the network's when not given.
    device : {"cpu", "cuda"}, default="cpu"
        Where it is to be trained; that of a given network counts.
    precision : {"float32", "tf32", "bf16"}, default="float32"
        What products are multiplied in, as for `Network`; that of a given one counts.

    Returns
    -------
    found : Estimate
        Printed, it is a sentence or two; `seconds` of the whole training, `memory` and `data` in bytes, `operations` an
        epoch and more hold the same as data.

    Raises
    ------
    ValueError
        When an argument is wrong.

    Notes
    -----
    Kernels are compiled first, if need be, for some seconds that do not count. Other work on the machine slows a trial
    as it would slow the training; validation, callbacks and checkpoints come on top.

    Examples
    --------
    >>> import fastmlp
    >>> found = fastmlp.estimate([64, 32, 10], m=1797, batch_size=32, epochs=30)
    >>> found.seconds > 0 and found.memory < 1_000_000
    True
    >>> found.data, found.operations == 1797 * (6 * (64 * 32 + 32 * 10) - 2 * 64 * 32)
    (531912, True)
    """
    for name, value, least in (("m", m, 1), ("epochs", epochs, 0)):
        if not is_whole(value) or value < least:
            raise ValueError(f"{name} is {value!r}; an integer >= {least} is allowed")
    network, optimizer, batch_size = _subject(sizes, (dtype, precision, device), int(m), optimizer, batch_size)
    if isinstance(optimizer, LBFGS):
        like: Any = GradientDescent(0.0)
    elif dataclasses.is_dataclass(optimizer) and hasattr(optimizer, "learning_rate"):
        like = dataclasses.replace(optimizer, learning_rate=0.0)  # type: ignore[type-var]
    else:
        raise ValueError(f"optimizer is {optimizer!r}; a GradientDescent, SGD, Adam or LBFGS object is allowed")
    size = check_batch_size(batch_size, optimizer, m)
    try:
        kind = np.dtype(network.dtype if x_dtype is None else x_dtype)
    except TypeError:
        kind = np.dtype(object)
    if kind not in NUMBERS:
        raise ValueError(f"x_dtype is {x_dtype!r}; a dtype of real numbers (integers, float16 to float64) is allowed")
    most = min(m, max(FIRST_ROWS, MOST_BYTES // (network.sizes[0] * kind.itemsize)))
    rows = min(most, -(-FIRST_ROWS // size) * size)
    seconds = _trial(network, like, size, rows, kind)
    more = min(most, max(1, int(rows * TRIAL_SECONDS / EPOCHS / seconds) // size) * size)
    if more > rows:
        rows = more
        seconds = _trial(network, like, size, rows, kind)
    each = seconds * m / rows
    operations = m * training_operations(network.sizes)
    peak, threads = _peak(network)
    trainer = network._trainer
    order = 8 * m if size < m else 0
    state = 0
    if isinstance(optimizer, LBFGS):  # SciPy's: pairs of differences, once more at the end, and some vectors, float64
        state = 8 * (4 * optimizer.memory + 12) * sum(n_in * n + n for n_in, n in zip(network.sizes, network.sizes[1:]))
    return Estimate(
        sizes=network.sizes,
        m=int(m),
        batch_size=size,
        epochs=int(epochs),
        seconds=epochs * each,
        seconds_an_epoch=each,
        memory=trainer.nbytes(size) + order + state,
        data=m * (network.sizes[0] * kind.itemsize + network.sizes[-1] * np.dtype(network.dtype).itemsize),
        operations=operations,
        peak=peak,
        share=None if peak is None else operations / each / peak,
        threads=threads,
        dtype=network.dtype,
        precision=network.precision,
        device=network.device,
    )


def _subject(
    sizes: Any, kind: tuple[str, str, str], m: int, optimizer: Any, batch_size: int | None
) -> tuple[Network, Any, int | None]:
    """A network that may be trained and thrown away, its optimizer and the examples of its minibatches."""
    if isinstance(sizes, Network):
        network = copy.deepcopy(sizes)
    elif type(sizes).__module__ == "fastmlp.estimators":
        from sklearn.utils.validation import check_is_fitted

        for name, value in (("optimizer", optimizer), ("batch_size", batch_size)):
            if value is not None:
                raise ValueError(f"{name} is {value!r}; an estimator has its own: None is allowed")
        check_is_fitted(sizes, "coefs_")
        return network_of(sizes, m), optimizer_of(sizes), optimizer_batch_size(sizes, m)
    elif kind[-1] == "auto":
        raise ValueError("device is 'auto'; 'cpu' and 'cuda' are allowed")
    else:
        dtype, precision, device = kind
        network = Network(sizes, dtype=dtype, precision=precision, device=device, random_state=0)
    return network, optimizer or network._optimizer or SGD(0.1), batch_size


def _trial(network: Network, optimizer: Any, batch_size: int, rows: int, kind: np.dtype) -> float:
    """The median time of an epoch over so many made-up examples, with a learning rate of zero."""
    rng = np.random.default_rng(0)
    X = np.resize(rng.integers(0, 2, 65_537).astype(kind), (rows, network.sizes[0]))
    T = np.full((rows, network.sizes[-1]), 1.0 / network.sizes[-1], network.dtype)
    size: dict[str, Any] = {} if isinstance(optimizer, GradientDescent) else {"batch_size": min(batch_size, rows)}
    ends: list[float] = []

    def epoch_ends(network: Network, history: Any) -> bool:
        ends.append(time.perf_counter())
        seconds = ends[-1] - ends[0]
        return len(ends) > EPOCHS and seconds > TRIAL_SECONDS / 2 or len(ends) > 1 and seconds > 2 * TRIAL_SECONDS

    try:
        network.train(X, T, optimizer=optimizer, epochs=1, **size)
        history = network.train(X, T, optimizer=optimizer, epochs=100_000, callbacks=[epoch_ends], **size)
    except DivergenceError:
        raise ValueError(
            "the loss of made-up examples is not finite; a network whose loss is defined for all outputs is allowed"
        ) from None
    if history.stopped == "interrupted":
        raise KeyboardInterrupt
    return max(float(np.median(np.diff(ends))), 1e-9)


def _peak(network: Network) -> tuple[float | None, int]:
    """The peak of the threads in use, and their number."""
    import numba

    threads = numba.get_num_threads()
    if network.device != "cpu":
        return None, threads
    from fastmlp.cpu.peak import peak

    return peak(network.dtype, threads, network.precision), threads
