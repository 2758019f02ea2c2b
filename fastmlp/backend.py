"""What the trainers of all devices have in common: a network's quantities, made of passes over examples."""

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, MutableMapping
from typing import Any

import numpy as np

from fastmlp.inputs import not_finite_error

Arrays = list[np.ndarray]


class Sharing(threading.local):
    """What trainings that are run together have in common: data that a device has already, by where they come from.

    They are found as long as a training has them: then other data may come to lie in the same place.
    """

    found: MutableMapping[Any, Any] | None = None  # None where each training is by itself


SHARING = Sharing()
SLICE_SECONDS = 0.3  # of a compiled call: Ctrl-C and the progress bar wait for one


class TrainerBase(ABC):
    """A network on a device.

    Parameters
    ----------
    sizes : tuple of int
        Widths of the layers, input and output included.
    activation, output, loss : str
    l2 : float
        lambda of eq. 5.
    dtype : numpy.dtype
        float32 or float64.
    dropout : float
    l2_per_example : bool, default=False
        Whether a minibatch's update takes l2 divided by the sum of its examples' weights.
    loss_limits : (float, float), optional
        Between which a log loss is kept where it is reported.
    precision : {"float32", "tf32", "bf16"}, default="float32"
        What products are multiplied in, if the dtype is float32; the device must have it.

    Notes
    -----
    A device's trainer has what is not made here by itself: `parameters` and `set_parameters`; the optimizer's state in
    `start_moments`, `set_moments`, `moments`; `snapshot` and `restore`, `remember`, `largest_change`, `go_back` and
    `is_finite`, which training needs between epochs; `forward`, `forward_one`, `deltas`; and `epochs`.
    """

    def __init__(
        self,
        sizes: tuple[int, ...],
        activation: str,
        output: str,
        loss: str,
        l2: float,
        dtype: Any,
        dropout: float,
        l2_per_example: bool = False,
        loss_limits: tuple[float, float] = (-math.inf, math.inf),
        precision: str = "float32",
    ):
        real = np.dtype(dtype)
        self.settings = sizes, activation, output, loss, l2, real, dropout, l2_per_example, loss_limits, precision
        self.sizes, self.activation, self.output, self.loss = sizes, activation, output, loss
        self.l2, self.dtype, self.dropout, self.precision = l2, real, dropout, precision
        self.l2_per_example, self.loss_limits = l2_per_example, loss_limits
        self.unlock()

    @abstractmethod
    def parameters(self) -> tuple[Arrays, Arrays]:
        """Copies of the weights and biases."""

    @abstractmethod
    def set_parameters(self, weights: Arrays, biases: Arrays, training: bool = True) -> None:
        """Take over weights[l] (n_in, n_out) and biases[l] (n_out,); prediction alone needs no transposed copy."""

    @abstractmethod
    def nbytes(self, batch_size: int) -> int:
        """Bytes of the arrays that training with such minibatches takes, X, T and their order aside."""

    @abstractmethod
    def forward(self, X: Any, out: Any = None, check: bool = True, largest: bool = False) -> np.ndarray:
        """h_{W,b}(X) (eq. 7)."""

    @abstractmethod
    def epochs(
        self, X: Any, T: Any, sample_weight: Any, settings: dict[str, Any], batch_size: int,
        order: Any = None, loss_offsets: Any = None, subset: Any = None,
    ) -> Any:  # fmt: skip
        """Training passes over the examples of X and T."""

    def rule_numbers(self, settings: dict[str, Any]) -> dict[str, float]:
        """What an update's rule needs, from the settings of `epochs`.

        Adam's epsilon is at least the root of the dtype's smallest normal number. A smaller gradient's square is zero:
        a weight that has never had a gradient would become 0 / 0, one that has had tiny ones only would explode.
        """
        names = ("momentum", "beta_1", "beta_2", "epsilon", "weight_decay", "max_norm")
        numbers = {name: settings.get(name) or 0.0 for name in names}
        return numbers | {"epsilon": max(numbers["epsilon"], float(np.finfo(self.dtype).tiny) ** 0.5)}

    def unlock(self) -> None:
        """Let nobody hold what one thread at a time may use."""
        self._one_lock = threading.Lock()  # of the buffers for a single example

    def has_parameters(self, weights: Arrays, biases: Arrays) -> bool:
        """Whether these are the weights and biases."""
        own = self.parameters()
        return all(map(np.array_equal, (*own[0], *own[1]), (*weights, *biases)))

    def _pass(self, X: Any, T: Any, sample_weight: Any, rule: str) -> Any:
        """One pass over X and T that changes nothing."""
        epoch = self.epochs(X, T, sample_weight, {"rule": rule}, X.shape[0])
        epoch.finish()
        epoch.refuse_not_finite()
        return epoch

    def objective(self, X: Any, T: Any, sample_weight: Any) -> float:
        """J (eq. 6)."""
        return self._pass(X, T, sample_weight, "evaluate").mean_loss() + self.penalty()

    def gradients(self, X: Any, T: Any, sample_weight: Any) -> tuple[float, Arrays, Arrays]:
        """J, U / m + lambda W and V / m (eq. 12-13 before the update)."""
        epoch = self._pass(X, T, sample_weight, "store")
        dW, db = epoch.sums()
        scale = 1.0 / (X.shape[0] if sample_weight is None else sample_weight.sum())
        W, _ = self.parameters()
        dW = [(u * scale + self.l2 * w).astype(self.dtype) for u, w in zip(dW, W, strict=True)]
        db = [(v * scale).astype(self.dtype) for v in db]
        return epoch.mean_loss() + self.penalty(), dW, db

    def penalty(self) -> float:
        """Eq. 5."""
        if self.l2 == 0:
            return 0.0
        return 0.5 * self.l2 * sum(float(np.square(w, dtype=np.float64).sum()) for w in self.parameters()[0])

    def hidden(self, X: Any, layer: int, check: bool = True) -> np.ndarray:
        """a of the layer-th hidden layer, counted from 0 (eq. 7), (m, n_l): what a network that ends there puts out."""
        weights, biases = self.parameters()
        f = self.activation
        ending = type(self)(
            self.sizes[: layer + 2], f, f, "squared_error", 0.0, self.dtype, 0.0, precision=self.precision
        )
        ending.set_parameters(weights[: layer + 1], biases[: layer + 1], training=False)
        return ending.forward(X, check=check)

    def layer_outputs(self, X: Any) -> list[tuple[np.ndarray, np.ndarray]]:
        """(z, a) of every layer but the first (eq. 7), (m, n_l) each."""
        result, a = [], X
        for number, (W, b) in enumerate(zip(*self.parameters(), strict=True)):
            last = number == len(self.sizes) - 2
            outputs = []
            for f in ("identity", self.output if last else self.activation):
                layer = type(self)(
                    W.shape, "identity", f, self.loss, 0.0, self.dtype, 0.0, precision=self.precision
                )
                layer.set_parameters([W], [b])
                outputs.append(layer.forward(a, check=number == 0))
            result.append((outputs[0], outputs[1]))
            a = outputs[1]
        return result


class EpochsBase(ABC):
    """Passes over the examples of X and T; each is begun, then run in parts until its `chunks` are `done`."""

    X: Any
    T: Any
    stream: Any  # in place of X and T; None where these are in memory
    m: int
    trainer: Any
    chunks: int
    chunks_each: int  # of a minibatch
    done: int
    _seconds_a_chunk: float

    @abstractmethod
    def run(self, last: int) -> None:
        """Go on until `last` chunks are done."""

    @abstractmethod
    def wait(self) -> None:
        """Wait until the chunks that were run are done."""

    @abstractmethod
    def mean_loss(self) -> float:
        """The mean over the examples seen of their minibatches' weighted mean loss, without eq. 5."""

    @abstractmethod
    def mean_penalty(self) -> float:
        """Eq. 5 averaged over the minibatches as they were seen, each counted by its number of examples."""

    @abstractmethod
    def met_not_finite(self) -> bool:
        """Whether a number of X or T was not finite."""

    def run_slice(self) -> int:
        """Go on for about SLICE_SECONDS, by the pace of the slice before; returns how many chunks that were."""
        begin, done = time.perf_counter(), self.done
        self.run(min(self.chunks, done + max(1, int(SLICE_SECONDS / self._seconds_a_chunk))))
        self.wait()
        self._seconds_a_chunk = max((time.perf_counter() - begin) / (self.done - done), 1e-9)
        return self.done - done

    def finish(self) -> None:
        """Go on to the end, slice by slice, so that Ctrl-C is heard."""
        while self.done < self.chunks:
            self.run_slice()

    def to_the_end(self) -> "Passes":
        """`finish` for `run` and `run_together`."""
        while self.done < self.chunks:
            yield self

    def seconds(self) -> float:
        """About how long what is left of the pass takes."""
        return (self.chunks - self.done) * self._seconds_a_chunk

    def left_finite(self) -> bool:
        """Whether every weight and bias is finite behind what was run."""
        return self.trainer.is_finite()

    def examples(self, chunks: int) -> int:
        """How many examples are in the first so many chunks."""
        return min(self.m, round(chunks / self.chunks * self.m))

    def updates(self) -> int:
        """How many updates of the weights the chunks that are done have made."""
        return self.done // self.chunks_each

    def objective(self) -> float:
        """J averaged over the minibatches as they were seen, each counted by its number of examples."""
        return self.mean_loss() + self.mean_penalty()

    def refuse_not_finite(self) -> None:
        """Raise the error that names a number of X or T that is not finite, if one was met."""
        if self.stream is not None and self.met_not_finite():
            raise self.stream.not_finite_error(self.trainer.dtype) or ValueError("a chunk changed while it was read")
        if self.stream is None and self.met_not_finite():
            for data, name in ((self.X, "X"), (self.T, "T")):
                error = not_finite_error(data, self.trainer.dtype, name)
                if error is not None:
                    raise error


# What trains: it yields passes that are to be run further, by a slice at the least, and returns its result.
Passes = Generator[EpochsBase, None, Any]


def run(passes: Passes) -> Any:
    """Run what a training yields slice by slice, so that Ctrl-C is heard; returns its result."""
    try:
        epochs = next(passes)
        while True:
            try:
                epochs.run_slice()
            except BaseException as error:
                epochs = passes.throw(error)
            else:
                epochs = next(passes)
    except StopIteration as end:
        return end.value
