"""Network: shape, parameters, forward, objective, gradients, train."""

import copy
import math
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp import devices, inputs
from fastmlp.supplied import Activation, Loss, supplied

if TYPE_CHECKING:
    from fastmlp.optimizers import Optimizer
    from fastmlp.training import History

HIDDEN_ACTIVATIONS = ("identity", "logistic", "tanh", "relu", "softplus")
OUTPUT_ACTIVATIONS = (*HIDDEN_ACTIVATIONS, "softmax")
LOSSES = ("squared_error", "log_loss")
INITS = ("small", "glorot", "he")
DTYPES = ("float32", "float64")
MOST_WEIGHTS = 2**44  # more than any memory holds, and far from where offsets in bytes overflow


def _choose(name: str, value: Any, allowed: Sequence[str]) -> Any:
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} is {value!r}; {', '.join(map(repr, allowed))} are allowed")
    return value


def _choose_or_take(name: str, value: Any, allowed: Sequence[str], kind: Any) -> Any:
    """One of some names, or what a user supplies in place of it."""
    if isinstance(value, str) and value in allowed:
        return value
    found = supplied(kind, value)
    if found is None:
        names = ", ".join(map(repr, allowed))
        raise ValueError(f"{name} is {value!r}; {names} and objects with functions f and df are allowed")
    return found


def _number(name: str, value: Any, allowed: str, holds: Callable[[float], bool]) -> float:
    try:
        right = not isinstance(value, (str, bytes)) and math.isfinite(value) and holds(value)
    except (TypeError, OverflowError):
        right = False
    if not right:
        raise ValueError(f"{name} is {value!r}; {allowed} is allowed")
    return float(value)


def _generator(random_state: Any) -> Any:
    if isinstance(random_state, (np.random.Generator, np.random.RandomState)):
        return random_state
    whole = isinstance(random_state, (int, np.integer)) and random_state >= 0
    if random_state is None or whole:
        return np.random.default_rng(random_state)
    allowed = "None, an int >= 0, a numpy Generator or RandomState"
    raise ValueError(f"random_state is {random_state!r}; {allowed} is allowed")


_networks: "weakref.WeakSet[Network]" = weakref.WeakSet()


def _unlock() -> None:
    """In a forked child: what a thread of the parent was doing to a network, nobody does any more."""
    for network in _networks:
        network._lock, network._training = threading.RLock(), False
        network._trainer.unlock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


class Network:
    """A multilayer network of the lecture, trained on the CPU at the chip's limit, or on an NVIDIA GPU.

    Parameters
    ----------
    sizes : sequence of int >= 1
        Widths of the layers, input and output included. With two numbers there is no hidden layer: linear, logistic
        or softmax regression.
    activation : {"identity", "logistic", "tanh", "relu", "softplus"} or Activation, default="logistic"
        f of the hidden layers (eq. 1-3); or your own, a `fastmlp.Activation` or any object with functions f(z), df(z).
    output : the same or "softmax", default="logistic"
        f of the output layer.
    loss : {"squared_error", "log_loss"} or Loss, default="squared_error"
        "squared_error" is eq. 4, half the squared distance, for any output but softmax. "log_loss" is the sum over
        the outputs of -y ln a - (1 - y) ln(1 - a) for a logistic output, and -sum_j y_j ln a_j for softmax. Or your
        own, a `fastmlp.Loss` or any object with functions f(a, y), df(a, y), for any output but softmax.
    l2 : float >= 0, default=0.0
        lambda of eq. 5, on weights, not biases.
    init : {"small", "glorot", "he"}, default="small"
        "small": weights and biases normal with standard deviation 0.01 (the lecture). "glorot": weights uniform
        within sqrt(6 / (n_in + n_out)); "he": weights normal with variance 2 / n_in; both with biases zero.
    dtype : {"float32", "float64"}, default="float32"
        Of parameters, products and results.
    precision : {"float32", "tf32", "bf16"}, default="float32"
        What the numbers that are multiplied in eq. 7, 9 and 10 are rounded to; sums, activation functions, updates and
        the weights that are kept stay float32. "bf16" has 8 significant bits; it needs a processor with AVX512-BF16,
        and is faster than float32 on AMD's and on Intel's with AMX, or a GPU from compute capability 8.0 on, on whose
        tensor cores it runs. "tf32" has 11, on those GPUs only.
    dropout : float in [0, 1), default=0.0
        Share of the hidden units that each example leaves out in training; the others are scaled by 1 / (1 - dropout).
    device : {"cpu", "cuda", "auto"}, default="cpu"
        "cuda" is an NVIDIA GPU, with the extra `fastmlp[cuda]`. "auto" is the GPU when there is a usable one and the
        work is worth it, else the CPU: it is decided when training starts.
    random_state : None, int, numpy Generator or RandomState, default=None
        Draws the start, the order of the examples and dropout's units.

    Raises
    ------
    ValueError
        When an argument is none of the above, output and loss do not go together, device is "cuda" and there is no
        usable GPU, or the device does not multiply in the precision.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import SGD, Network
    >>> X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
    >>> T = np.array([0, 1, 1, 0])
    >>> net = Network([2, 8, 1], activation="tanh", init="glorot", loss="log_loss", random_state=0)
    >>> history = net.train(X, T, optimizer=SGD(0.5, momentum=0.9), epochs=500)
    >>> net.forward(X).round().ravel()
    array([0., 1., 1., 0.], dtype=float32)
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str | Activation | Any = "logistic",
        output: str | Activation | Any = "logistic",
        loss: str | Loss | Any = "squared_error",
        l2: float = 0.0,
        init: str = "small",
        dtype: Any = "float32",
        precision: str = "float32",
        dropout: float = 0.0,
        device: str = "cpu",
        random_state: Any = None,
    ):
        self._sizes = self._check_sizes(sizes)
        self._activation = _choose_or_take("activation", activation, HIDDEN_ACTIVATIONS, Activation)
        self._output = _choose_or_take("output", output, OUTPUT_ACTIVATIONS, Activation)
        self._loss = _choose_or_take("loss", loss, LOSSES, Loss)
        if (output == "softmax") != (loss == "log_loss") and output != "logistic":
            raise ValueError(
                f"output is {output!r} and loss is {loss!r}; softmax goes with log_loss only, and log_loss with "
                f"'logistic' or 'softmax' only"
            )
        if output == "softmax" and self._sizes[-1] < 2:
            raise ValueError(f"output is 'softmax' and sizes end in {self._sizes[-1]}; at least 2 outputs are allowed")
        self._l2 = _number("l2", l2, "a finite number >= 0", lambda x: x >= 0)
        self._init = _choose("init", init, INITS)
        try:
            named = str(dtype) if dtype is None else np.dtype(dtype).name
        except TypeError:
            named = str(dtype)
        self._dtype = _choose("dtype", named, DTYPES)
        self._precision = _choose("precision", precision, devices.PRECISIONS)
        self._dropout = _number("dropout", dropout, "a number in [0, 1)", lambda x: 0 <= x < 1)
        self._wanted_device = _choose("device", device, devices.DEVICES)
        self._device = devices.resolve(device, precision, self._dtype)
        self._rng = _generator(random_state)
        self._optimizer: Optimizer | None = None
        self._updates = 0
        self._epochs = 0
        self._training = False
        self._one_row = (1, self._sizes[0])
        self._lock = threading.RLock()
        _networks.add(self)
        self._trainer = self._make_trainer(self._device)
        self._set_parameters(*self._start())

    @staticmethod
    def _check_sizes(sizes: Any) -> tuple[int, ...]:
        try:
            found = tuple(sizes)
            right = len(found) >= 2 and all(int(n) == n >= 1 and not isinstance(n, bool) for n in found)
        except Exception:  # whatever int() of what is no number raises
            right = False
        if not right:
            raise ValueError(f"sizes is {sizes!r}; at least two integers >= 1, the widths of the layers, are allowed")
        found = tuple(int(n) for n in found)
        numbers = sum(n_in * n_out for n_in, n_out in zip(found, found[1:], strict=False))
        if numbers > MOST_WEIGHTS:
            raise ValueError(f"sizes is {sizes!r}, which makes {numbers} weights; at most {MOST_WEIGHTS} are allowed")
        return found

    def _make_trainer(self, device: str) -> Any:
        make = devices.trainer_class(device)
        shape, pieces = self._sizes, (self._activation, self._output, self._loss)
        return make(shape, *pieces, self._l2, self._dtype, self._dropout, precision=self._precision)

    def _settle(self, examples: int, batch_size: int, epochs: int) -> None:
        """With device="auto", move to the device that the training to come is faster on."""
        if self._wanted_device != "auto":
            return
        device = devices.choose(self._trainer, examples, batch_size, epochs)
        if device != self._device:
            trainer = self._make_trainer(device)
            trainer.set_parameters(*self._trainer.parameters())
            trainer.set_moments(self._trainer.moments())
            self._device, self._trainer = device, trainer

    def _start(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        weights, biases = [], []
        for n_in, n_out in zip(self._sizes, self._sizes[1:], strict=False):
            if self._init == "small":
                weights.append(self._rng.normal(0.0, 0.01, (n_in, n_out)))
                biases.append(self._rng.normal(0.0, 0.01, n_out))
                continue
            if self._init == "glorot":
                bound = math.sqrt(6 / (n_in + n_out))
                weights.append(self._rng.uniform(-bound, bound, (n_in, n_out)))
            else:
                weights.append(self._rng.normal(0.0, math.sqrt(2 / n_in), (n_in, n_out)))
            biases.append(np.zeros(n_out))
        return [w.astype(self._dtype) for w in weights], [b.astype(self._dtype) for b in biases]

    # ---- attributes ------------------------------------------------------------------------------------------------

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths of the layers, input and output included."""
        return self._sizes

    @property
    def activation(self) -> Any:
        """f of the hidden layers: a name, or an Activation."""
        return self._activation

    @property
    def output(self) -> Any:
        """f of the output layer: a name, or an Activation."""
        return self._output

    @property
    def loss(self) -> Any:
        """The loss of one example: a name, or a Loss."""
        return self._loss

    @property
    def l2(self) -> float:
        """lambda of eq. 5."""
        return self._l2

    @property
    def init(self) -> str:
        """How weights and biases started."""
        return self._init

    @property
    def dtype(self) -> str:
        """Of parameters and results: "float32" or "float64"."""
        return self._dtype

    @property
    def precision(self) -> str:
        """What products are multiplied in."""
        return self._precision

    @property
    def dropout(self) -> float:
        """Share of the hidden units left out in training."""
        return self._dropout

    @property
    def device(self) -> str:
        """Where it runs: "cpu" or "cuda"; "auto" decides when training starts."""
        return self._device

    @property
    def weights(self) -> tuple[np.ndarray, ...]:
        """Read-only copies of the weights, (n_in, n_out) each; assign a whole sequence to change them."""
        return self._frozen(self._trainer.parameters()[0])

    @weights.setter
    def weights(self, weights: Sequence[Any]) -> None:
        shapes = list(zip(self._sizes, self._sizes[1:], strict=False))
        arrays = self._check_parameters("weights", weights, shapes)
        with self._lock:
            self._set_parameters(arrays, self._trainer.parameters()[1])

    @property
    def biases(self) -> tuple[np.ndarray, ...]:
        """Read-only copies of the biases, (n_out,) each; assign a whole sequence to change them."""
        return self._frozen(self._trainer.parameters()[1])

    @biases.setter
    def biases(self, biases: Sequence[Any]) -> None:
        arrays = self._check_parameters("biases", biases, [(n,) for n in self._sizes[1:]])
        with self._lock:
            self._set_parameters(self._trainer.parameters()[0], arrays)

    @staticmethod
    def _frozen(arrays: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        for array in arrays:
            array.flags.writeable = False
        return tuple(arrays)

    def _check_parameters(self, name: str, values: Any, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
        try:
            arrays = [inputs.as_array(value, f"{name}[{k}]") for k, value in enumerate(values)]
        except TypeError:
            found = type(values).__name__
            raise ValueError(f"{name} is {found}; a sequence of {len(shapes)} arrays is allowed") from None
        if [a.shape for a in arrays] != shapes:
            raise ValueError(f"{name} have the shapes {[a.shape for a in arrays]}; {shapes} are allowed")
        converted = []
        for k, array in enumerate(arrays):
            error = inputs.not_finite_error(array, np.dtype(self._dtype), f"{name}[{k}]")
            if error is not None:
                raise error
            converted.append(array.astype(self._dtype))
        return converted

    def _set_parameters(self, weights: list[np.ndarray], biases: list[np.ndarray]) -> None:
        self._trainer.set_parameters(weights, biases)
        self._optimizer = None

    def __repr__(self) -> str:
        defaults = {"l2": 0.0, "init": "small", "dtype": "float32", "precision": "float32", "dropout": 0.0}
        names = ["activation", "output", "loss", *(n for n, value in defaults.items() if getattr(self, n) != value)]
        return f"Network({', '.join([str(list(self._sizes)), *(f'{n}={getattr(self, n)!r}' for n in names)])})"

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            state = {k: v for k, v in self.__dict__.items() if k not in ("_trainer", "_lock")} | {"_training": False}
            state["parameters"] = self._trainer.parameters()
            state["moments"] = self._trainer.moments()
            state["_rng"] = copy.deepcopy(self._rng)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        parameters, moments = state.pop("parameters"), state.pop("moments")
        self.__dict__.update(state)
        self._lock = threading.RLock()
        _networks.add(self)
        problem = devices.cuda_problem() if self._device == "cuda" else None
        if problem is not None:
            if self._wanted_device != "auto":
                message = f"a network of a GPU goes on on the CPU: {problem.message}"
                warnings.warn(message, RuntimeWarning, stacklevel=2)
            self._device = "cpu"
        wanted = "auto" if self._wanted_device == "auto" else self._device
        self._precision = devices.kept_precision(self._precision, wanted, stacklevel=2)
        if devices.precision_problem(self._precision, self._device) is not None:
            self._device = "cuda"  # which alone has it, and "auto" may take
        self._trainer = self._make_trainer(self._device)
        self._trainer.set_parameters(*parameters)
        self._trainer.set_moments(moments)

    # ---- the lecture's quantities ----------------------------------------------------------------------------------

    def forward(self, X: Any, out: np.ndarray | None = None) -> np.ndarray:
        """h_{W,b}(x) for every row of X (eq. 7).

        Parameters
        ----------
        X : array-like or CSR matrix of shape (m, n_in)
            Any real dtype, order and strides. It is read in chunks of rows and never copied whole.
        out : ndarray of shape (m, n_out) and the network's dtype, C-contiguous, optional
            Where the result goes.

        Returns
        -------
        h : ndarray of shape (m, n_out)

        Raises
        ------
        ValueError
            When X or out has a wrong shape or dtype, or X holds a number that is not finite.
        """
        if out is None and type(X) is np.ndarray and X.shape == self._one_row and X.dtype.kind in "fiub":
            return self._trainer.forward_one(X)
        X = inputs.as_examples(X, self._sizes[0])
        shape = (X.shape[0], self._sizes[-1])
        if out is None:
            return self._trainer.forward(X)
        if not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != self._dtype:
            found = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
            raise ValueError(f"out is {found}; an array of {self._dtype} {shape} is allowed")
        if not (out.flags.c_contiguous and out.flags.writeable and out.flags.aligned):
            raise ValueError("out is not C-contiguous, aligned and writeable; only such an array is allowed")
        error = inputs.not_finite_error(X, np.dtype(self._dtype), "X")
        if error is not None:
            raise error
        return self._trainer.forward(X, out)

    def layers(self, X: Any) -> list[tuple[np.ndarray, np.ndarray]]:
        """Every z and a of the network (eq. 7).

        Parameters
        ----------
        X : array-like or CSR matrix of shape (m, n_in)

        Returns
        -------
        layers : list of (z, a)
            Of the layers 2 ... L, ndarrays of shape (m, n_l): layers[0] is (z^(2), a^(2)), layers[-1][1] is h(x).
        """
        return self._trainer.layer_outputs(inputs.as_examples(X, self._sizes[0]))

    def transform(self, X: Any, layer: int = -1) -> np.ndarray:
        """The representation of X that the network has learned: a of a hidden layer (eq. 7).

        Parameters
        ----------
        X : array-like or CSR matrix of shape (m, n_in)
        layer : int, default=-1
            Which hidden layer, counted from 0, or from the end: the last one, which the output layer decides by.

        Returns
        -------
        a : ndarray of shape (m, n_l)

        Raises
        ------
        ValueError
            When there is no such hidden layer, or X does not suit the network.
        """
        layer = inputs.as_hidden_layer(layer, len(self._sizes) - 2)
        return self._trainer.hidden(inputs.as_examples(X, self._sizes[0]), layer)

    def deltas(self, X: Any, T: Any) -> list[np.ndarray]:
        """The back-propagated errors (eq. 8-9) of every example, not divided by m.

        Parameters
        ----------
        X, T
            As for `objective`.

        Returns
        -------
        deltas : list of ndarray of shape (m, n_l)
            [delta^(2), ..., delta^(L)], the derivatives of each example's loss by z.
        """
        X, T, _ = self._data(X, T, None)
        with self._lock:
            return self._trainer.deltas(X, T)

    def objective(self, X: Any, T: Any, sample_weight: Any = None) -> float:
        """J(W, b) (eq. 6): the mean loss of the examples plus lambda / 2 times the sum of the squared weights.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (m, n_in)
        T : array-like of shape (m, n_out); (m,) when n_out is 1; (m,) integer labels with a softmax output
        sample_weight : array-like of shape (m,), optional
            The mean is weighted with it.

        Returns
        -------
        J : float
        """
        X, T, weight = self._data(X, T, sample_weight)
        with self._lock:
            return self._trainer.objective(X, T, weight)

    def gradients(self, X: Any, T: Any, sample_weight: Any = None) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The derivatives of J: U / m + lambda W and V / m (eq. 10-13).

        Parameters
        ----------
        X, T, sample_weight
            As for `objective`.

        Returns
        -------
        dW, db : list of ndarray, (n_in, n_out) and (n_out,) each
            In the order of `weights` and `biases`; eq. 12-13 are W - alpha dW and b - alpha db.
        """
        X, T, weight = self._data(X, T, sample_weight)
        with self._lock:
            return self._trainer.gradients(X, T, weight)[1:]

    def _data(self, X: Any, T: Any, sample_weight: Any, prefix: str = "") -> tuple[Any, Any, Any]:
        X = inputs.as_examples(X, self._sizes[0], f"{prefix}X")
        m = X.shape[0]
        if m == 0:
            raise ValueError(f"{prefix}X has shape {X.shape}; at least one row is allowed")
        T = inputs.as_targets(T, m, self._sizes[-1], self._output, self._loss, f"{prefix}T")
        return X, T, inputs.as_sample_weight(sample_weight, m)

    def _training_data(
        self, X: Any, T: Any, sample_weight: Any, shuffle: bool, window: int | None
    ) -> tuple[Any, Any, Any]:
        """`_data`, or a stream and no targets where X is read in chunks."""
        n_in, outputs = self._sizes[0], self._sizes[-1]
        if window is not None and (not inputs.is_whole(window) or window < 1):
            raise ValueError(f"window is {window!r}; None or an integer >= 1, a number of examples, is allowed")
        mapped = isinstance(X, np.memmap) and shuffle and sample_weight is None
        if T is not None and not mapped and window is None:
            return self._data(X, T, sample_weight)
        from fastmlp.streaming import WINDOW_BYTES, Shards, Stream

        if sample_weight is not None:
            raise ValueError("sample_weight is given and X is read in chunks; there it must be None")

        def check(X: Any, T: Any, suffix: str) -> tuple[Any, Any]:
            X = inputs.as_examples(X, n_in, f"X{suffix}")
            return X, inputs.as_targets(T, X.shape[0], outputs, self._output, self._loss, f"T{suffix}")

        if T is None:
            whole = not (hasattr(X, "__len__") and hasattr(X, "__getitem__")) or isinstance(X, (np.ndarray, str, dict))
            if whole or inputs.is_sparse(X):
                raise ValueError("T is None; targets are allowed, or a sequence of chunks (X, T) in place of X")
            return Stream(X, window, check), None, None
        examples, targets, _ = self._data(X, T, None)
        if window is None and examples.nbytes + targets.nbytes <= WINDOW_BYTES:
            return examples, targets, None
        return Stream(Shards([examples], [targets]), window, check), None, None

    # ---- training --------------------------------------------------------------------------------------------------

    def train(
        self,
        X: Any,
        T: Any = None,
        *,
        optimizer: "Optimizer",
        batch_size: int | None = None,
        epochs: int = 10,
        shuffle: bool = True,
        tol: float | None = None,
        sample_weight: Any = None,
        validation: tuple[Any, Any] | None = None,
        patience: int | None = None,
        callbacks: Sequence[Callable[["Network", "History"], Any]] = (),
        progress: bool = False,
        checkpoint: Any = None,
        checkpoint_every: int = 1,
        window: int | None = None,
        comm: Any = None,
    ) -> "History":
        """Train for some epochs, each one pass over the m examples.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (m, n_in), or sequence of chunks
            Any real dtype, order and strides; never copied whole. Or, for more data than memory holds, any object with
            `len(X)` and `X[k]`, the k-th chunk, a pair (X, T) of such arrays, the same at every call (calls come from
            another thread, one at a time). With an attribute `rows`, the numbers of examples of the chunks, it is not
            read once more to count them. `fastmlp.Shards` is such an object, for .npy files.
        T : array-like of shape (m, n_out); (m,) when n_out is 1; (m,) integer labels with a softmax output
            None where X is a sequence of chunks.
        optimizer : GradientDescent, SGD, Adam or LBFGS
            Its state goes on while consecutive calls pass an equal optimizer.
        batch_size : int >= 1, optional
            Examples in a minibatch, for SGD and Adam: min(200, m) when not given. The last one may be smaller; its
            gradient is the mean over its own examples.
        epochs : int >= 0, default=10
            Passes at most; of LBFGS, iterations.
        shuffle : bool, default=True
            Whether SGD and Adam take the examples in a new random order every epoch.
        tol : float >= 0, optional
            Stop after the first epoch in which no weight or bias changed by more than this ("until the weights stop
            changing").
        sample_weight : array-like of shape (m,), optional
            Means over examples are weighted with it.
        validation : (X, T), optional
            The objective on it is kept after every epoch, in history.validation.
        patience : int >= 1, optional
            With validation: stop after so many epochs without a new best; the best weights stand.
        callbacks : sequence of callables
            Each is called as callback(network, history) after every epoch; training stops when one returns True.
        progress : bool, default=False
            Show a progress bar (tqdm, in notebooks too).
        checkpoint : path-like, optional
            A file that the training is written to, in one piece or not at all. Where it is there already, the training
            goes on from it, and `epochs` is the number of all epochs: the same call again, after a crash, Ctrl-C or a
            power failure, ends with the same bits as an undisturbed one (L-BFGS restarts its memory); a finished
            training is loaded and returned at once; with more epochs it goes on, unless tol, patience or a callback has
            ended it. X and T must be the same again: their shapes and some of their rows are compared. `fastmlp.load`
            makes a network of the file.
        checkpoint_every : int >= 1, default=1
            Epochs from one writing to the next.
        window : int >= 1, optional
            Where X comes in chunks: how many examples are in memory at a time, twice, and how many are shuffled among
            each other; 64 MB of them when not given. Memory maps larger than that are read in chunks too when they are
            shuffled (without sample_weight); with `window` any X is. Without shuffling the result is that of a training
            in memory, to the bit. Numbers are checked in every epoch; where one is refused, or a chunk cannot be read,
            the weights of the last epoch stand.
        comm : mpi4py.MPI.Intracomm, optional
            Train together with all ranks of a communicator, as `MPI.COMM_WORLD` (needs `fastmlp[mpi]`): each calls
            `train` with its own examples in X, T, sample_weight and validation, as many as it likes, and the same other
            arguments. The result is that of one process with all examples, one rank's behind another's, to rounding;
            `batch_size` is that of all ranks together, and the weights, the optimizer's state and random_state that it
            starts from are rank 0's. Every rank ends with the same bits and the same history. Callbacks are called on
            every rank, and any of them may stop all; rank 0 shows the progress bar, writes the checkpoint and reads
            it, also that of another number of ranks. An error on one rank ends the training on all, and a rank that
            dies ends the others; start Python with `-m mpi4py`, so that an error elsewhere in the script does so, too.
            On the CPU, without `window` and chunks.

        Returns
        -------
        history : History

        Raises
        ------
        ImportError
            When comm is given and mpi4py is not installed.
        ValueError
            When an argument is wrong, here or on another rank, or the checkpoint is damaged or that of another
            network, data or settings; nothing has been changed then.
        RuntimeError
            When it is called by a callback of a training of the same network; with comm, also when a callback has
            failed on another rank.
        DivergenceError
            When the objective or a weight is no longer finite; the weights are those after the last epoch at whose
            end they were.
        """
        from fastmlp import training

        with self._lock:
            return training.train(
                comm,
                self,
                X,
                T,
                optimizer,
                batch_size,
                epochs,
                training.Settings(
                    shuffle, tol, validation, patience, callbacks, progress, checkpoint, checkpoint_every, window
                ),
                sample_weight,
            )
