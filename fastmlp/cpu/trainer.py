"""The CPU's side of a network: its parameters in panels, its room for a chunk, and calls of the compiled passes."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

from fastmlp.backend import SLICE_SECONDS, Arrays, EpochsBase, TrainerBase
from fastmlp.codes import RULES, loss_code
from fastmlp.cpu import layout as _layout
from fastmlp.cpu.compiling import callable_at
from fastmlp.cpu.epoch import COUNT, EPOCHS, ROOMS, TOGETHER_WORDS, compiled_epoch, compiled_passes, compiled_together
from fastmlp.cpu.gather import Source
from fastmlp.cpu.layout import CHUNK_ROWS, ROOM_WORDS, STEP, UPDATE, aligned, from_panels, padded, paired, to_panels
from fastmlp.cpu.prediction import compiled_one, compiled_prediction
from fastmlp.cpu.supplied import compiled_map
from fastmlp.cpu.team import WORDS, assemble, run_shares
from fastmlp.cpu.threads import ThreadShare
from fastmlp.cpu.vector import BEHIND, PAIR, STEP_WORDS, TILE_ROWS, VECTOR_BYTES, panel_of
from fastmlp.inputs import not_finite_error
from fastmlp.streaming import Stream

# Measured, in seconds: announcing a pass to the threads of a region and waiting for its end; starting and ending a
# region, by Numba's threading layer. A few of these worth of work are left to one thread, judged by a cautious guess
# of its operations a second for each byte of a vector.
PASS_SECONDS = 1.5e-6
REGION_SECONDS = {"omp": 2e-6, "tbb": 5e-6, "workqueue": 100e-6}
OPERATIONS_PER_VECTOR_BYTE = 4e9

# Guesses for the first slice of an epoch: what a chunk and a row take beside their products, and how wrong it may be.
CHUNK_SECONDS, ROW_SECONDS, CAUTION = 2e-6, 50e-9, 4.0

# Of each field of a step, words of 8 bytes all: which word it is, and whether it is a real number.
PLACES = {name: (place, STEP[name] == np.float64) for place, name in enumerate(STEP.names or ())}
(CHECK, UPDATES, LEARNING_RATE, ORDER_SEED, DROPOUT_SEED, FROM_CHUNK, TO_CHUNK) = (
    PLACES[name][0]
    for name in ("check", "updates", "learning_rate", "order_seed", "dropout_seed", "from_chunk", "to_chunk")
)
LOSS_SUM, SQUARE_SUM, BAD_INPUT, FINITE = (
    PLACES[name][0] for name in ("loss_sum", "square_sum", "bad_input", "finite")
)

# A chunk shorter than this is short; how often one thread and all are compared there.
SHORT_SECONDS = 0.5e-3
RUNS_BETWEEN_TRIALS = 64


def region_seconds() -> float:
    """The cost of a parallel region on the threading layer in use (or, before the first one, on OpenMP)."""
    try:
        return REGION_SECONDS[numba.threading_layer()]
    except (ValueError, KeyError):
        return REGION_SECONDS["omp"]


def seconds_an_epoch(sizes: tuple[int, ...], dtype: np.dtype, precision: str, examples: int) -> float:
    """A guess of how long an epoch takes with all threads."""
    work = sum(n_in * n_out for n_in, n_out in zip(sizes, sizes[1:], strict=False))
    pairs = 2 if precision == "bf16" else 1
    return 6.0 * work * examples / (pairs * speed(dtype)) / numba.get_num_threads()


def speed(dtype: np.dtype) -> float:
    """A cautious guess of one core's speed in operations a second."""
    return OPERATIONS_PER_VECTOR_BYTE * VECTOR_BYTES / np.dtype(dtype).itemsize


def first_guess(operations: float, rows: float, dtype: np.dtype) -> float:
    """At the most how many seconds a chunk takes, of rows with so many operations each, before one was measured."""
    return CAUTION * (CHUNK_SECONDS + rows * (ROW_SECONDS + operations / speed(dtype)))


def is_finite(array: np.ndarray) -> bool:
    """Whether every number of an array is finite: a sum says so in a third of the time, unless it overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum()) or np.isfinite(array).all())


class Kind(NamedTuple):
    """What a room depends on; passes that need rooms of one kind may use the same."""

    sizes: tuple[int, ...]
    activation: Any
    output: Any
    dtype: np.dtype
    precision: str
    rows: int  # of a chunk
    whole: bool  # whether U and V are wanted whole


class Arena:
    """Memory for rooms of which one is in use at a time: they lie one over another."""

    def __init__(self) -> None:
        self._memory, self._taken = aligned(0, np.uint8), 0

    def begin(self) -> "Arena":
        """What is asked for from now on is another room's."""
        self._taken = 0
        return self

    def __call__(self, size: int, dtype: Any) -> np.ndarray:
        """Room for so many numbers, as `aligned` gives it."""
        need = size * np.dtype(dtype).itemsize
        if self._taken + need > self._memory.size:  # earlier rooms keep what they have, less than this in all
            self._memory, self._taken = aligned(max(need, 2 * self._memory.size), np.uint8), 0
        begin, self._taken = self._taken, padded(self._taken + need + VECTOR_BYTES, 64)
        return self._memory[begin : begin + need].view(dtype)


def rows_of_room(examples: int, precision: str) -> int:
    """The rows of a room for the chunks of so many examples: whole tiles, and whole steps of the sum that U is."""
    return padded(min(examples, CHUNK_ROWS), max(TILE_ROWS, 2 * STEP_WORDS) if precision == "bf16" else TILE_ROWS)


class Room:
    """Buffers for chunks of up to `rows` examples; what a pass leaves in them must be read before the next."""

    def __init__(self, network: "Trainer | Kind", rows: int, allocate: Callable[[int, Any], np.ndarray] = aligned):
        rounded = network.precision == "bf16"
        plan = _layout.layout(network.sizes, network.activation, network.output, network.dtype, rows)
        dtype, panel = network.dtype, panel_of(network.dtype)
        top = plan.layers[-1]
        outputs = int(top["out_panels"]) * panel
        row_tiles = plan.rows // TILE_ROWS
        self.plan = plan
        self.arrays = {
            "layers": plan.layers,
            "activations": allocate(plan.activations, dtype),
            "deltas": allocate(plan.activations, dtype),
            "targets": allocate(outputs * plan.rows, dtype),
            "row_weights": allocate(plan.rows, dtype),
            "mask": aligned(outputs, dtype),
            "losses": allocate(row_tiles, np.float64),
            "not_finite": allocate(row_tiles, np.int64),
            "squares": allocate(plan.tiles, np.float64),
            "norms": allocate(plan.tiles, np.float64),
            "team": allocate(WORDS, np.int64),
        }
        self.arrays["mask"][: top["n_out"]] = 1
        numbers = {"a": "activations", "d": "deltas"}
        operands = {f"{which}_{along}": self.arrays[numbers[which]] for which in "ad" for along in ("rows", "pairs")}
        if rounded:
            operands = {name: allocate(plan.activations // 2 + BEHIND, PAIR) for name in operands}
            self.arrays |= operands
        self._parameters, self._allocate = plan.parameters, allocate
        if not (isinstance(network.activation, str) and isinstance(network.output, str)):
            self.arrays["slopes"] = allocate(plan.activations, dtype)
        examples, weights = compiled_passes(dtype, network.precision)
        self.step = make_step(
            **self.arrays | operands,
            examples_pass=examples.address,
            weights_pass=weights.address,
            n_layers=len(plan.layers),
            n_row_tiles=row_tiles,
            n_tiles=plan.tiles,
        )

    def prepare(self, threads: int, whole: bool) -> None:
        """See to it that there is a tile for each of so many threads and room for U and V, if they are wanted whole."""
        dtype = self.arrays["activations"].dtype
        sizes = {"scratch": threads * TILE_ROWS * panel_of(dtype), "gradients": self._parameters * whole}
        for name, size in sizes.items():
            if size and (name not in self.arrays or self.arrays[name].size < size):
                self.arrays[name] = self._allocate(size, dtype)
                self.step[0][name] = self.arrays[name].ctypes.data


def make_step(like: np.ndarray | None = None, **values: Any) -> np.ndarray:
    """A step with some fields set; arrays are named by their address (the caller keeps them alive)."""
    step = np.zeros(1, STEP) if like is None else like.copy()
    words, reals = step.view(np.int64), step.view(np.float64)  # setting a field of the record takes far longer
    for name, value in values.items():
        place, is_real = PLACES[name]
        (reals if is_real else words)[place] = value.ctypes.data if isinstance(value, np.ndarray) else value
    return step


def call_on_threads(address: int, step: np.ndarray, activations: np.ndarray, threads: int) -> None:
    """Call the compiled function at an address on so many threads, the calling one when there is one."""
    if threads == 1:
        callable_at(address, 4)(step.ctypes.data, activations.ctypes.data, 0, 1)
    else:
        run_shares(address, step.ctypes.data, activations.ctypes.data, threads)


class Trainer(TrainerBase):
    """A network on the CPU; the parameters are TrainerBase's."""

    def __init__(self, *settings, **more):
        super().__init__(*settings, **more)
        sizes, dtype = self.sizes, self.dtype
        plan = _layout.layout(sizes, self.activation, self.output, dtype, TILE_ROWS)
        self.layers = plan.layers
        self.work = sum(n_in * n_out for n_in, n_out in zip(sizes, sizes[1:], strict=False))
        self.model = {
            "parameters": aligned(plan.parameters, dtype),
            "first": aligned(0, dtype),
            "second": aligned(0, dtype),
        }
        self.rounded = self.precision == "bf16"
        if self.rounded:  # W and its transpose as operands
            self.model["weights"] = aligned(plan.parameters // 2 + BEHIND, PAIR)
            self.model["transposed"] = aligned(plan.transposed // 2, PAIR)
        else:
            self.model["transposed"] = aligned(plan.transposed, dtype)
        self.loss_functions = 0, 0
        if not isinstance(self.loss, str):
            f, df = (compiled_map(plain, 2, dtype) for plain in (self.loss.plain_f, self.loss.plain_df))
            self.loss_functions = f.address, df.address
        self._rooms = {}
        self._remembered = np.empty(0, self.dtype)
        self._one = None

    # ---- parameters and the optimizer's state, as arrays of the lecture's shapes -----------------------------------

    def set_parameters(self, weights: Arrays, biases: Arrays, training: bool = True) -> None:
        """Take over weights[l] (n_in, n_out) and biases[l] (n_out,); prediction alone needs no transposed copy."""
        self._write(self.model["parameters"], weights, biases)
        self._write_operands(weights, training)

    def parameters(self) -> tuple[Arrays, Arrays]:
        """Copies of the weights and biases."""
        return self._read(self.model["parameters"])

    def weights_operand(self) -> np.ndarray:
        """W as eq. 7 multiplies it."""
        return self.model["weights" if self.rounded else "parameters"]

    def set_moments(self, moments: list[tuple[Arrays, Arrays]]) -> None:
        """Take over the optimizer's state: for each moment one array for each of the weights and biases."""
        self.start_moments(len(moments))
        for name, moment in zip(("first", "second"), moments, strict=False):
            self._write(self.model[name], *moment)

    def start_moments(self, count: int) -> None:
        """Fresh optimizer state: `count` moments of zeros."""
        for n, name in enumerate(("first", "second")):
            size = self.model["parameters"].size if n < count else 0
            if self.model[name].size == size:
                self.model[name].fill(0)
            else:
                self.model[name] = aligned(size, self.dtype)

    def moments(self) -> list[tuple[Arrays, Arrays]]:
        """Copies of the optimizer's state."""
        return [self._read(self.model[name]) for name in ("first", "second") if self.model[name].size]

    def snapshot(self) -> dict[str, np.ndarray]:
        """A copy of all that training changes, for `restore`."""
        return {name: array.copy() for name, array in self.model.items()}

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """Go back to a snapshot."""
        self.start_moments(sum(snapshot[name].size > 0 for name in ("first", "second")))
        for name, array in snapshot.items():
            self.model[name][...] = array

    def remember(self) -> None:
        """Keep a copy of the weights and biases, for `largest_change` and `go_back`."""
        np.copyto(self.remembered(), self.model["parameters"])

    def remembered(self) -> np.ndarray:
        """Where the weights and biases are kept."""
        if self._remembered.size == 0:
            self._remembered = aligned(self.model["parameters"].size, self.dtype)
        return self._remembered

    def largest_change(self) -> float:
        """The largest change of a weight or bias since `remember`."""
        now, then = self.model["parameters"], self._remembered
        return max(float(np.abs(now[i : i + 65536] - then[i : i + 65536]).max()) for i in range(0, now.size, 65536))

    def is_finite(self) -> bool:
        """Whether every weight and bias is finite."""
        return is_finite(self.model["parameters"])

    def go_back(self) -> None:
        """Return to the remembered weights and biases."""
        self.model["parameters"][...] = self._remembered
        self._write_operands(self.parameters()[0])

    def nbytes(self, batch_size: int) -> int:
        """Bytes of the arrays that training with such minibatches takes, X, T and their order aside."""
        parameters = self.model["parameters"].nbytes
        room = self._room(batch_size).arrays
        whole = 0 if "gradients" in room or batch_size <= CHUNK_ROWS else parameters
        whole += 0 if "scratch" in room else TILE_ROWS * panel_of(self.dtype) * self.dtype.itemsize
        arrays = (*self.model.values(), *room.values())
        return sum(array.nbytes for array in arrays) + whole + parameters  # the last ones remembered

    def _write(self, flat: np.ndarray, weights: Arrays, biases: Arrays) -> None:
        for layer, W, b in zip(self.layers, weights, biases, strict=True):
            to_panels(W, flat, layer["weights"], layer["rows"])
            flat[layer["biases"] : layer["biases"] + len(b)] = b

    def _read(self, flat: np.ndarray) -> tuple[Arrays, Arrays]:
        weights, biases = [], []
        for layer in self.layers:
            weights.append(from_panels(flat, layer["weights"], layer["rows"], (layer["n_in"], layer["n_out"])))
            biases.append(flat[layer["biases"] : layer["biases"] + layer["n_out"]].copy())
        return weights, biases

    def _write_operands(self, weights: Arrays, transposed: bool = True) -> None:
        if self.rounded:  # what updates that diverged have left in the padding
            self.model["weights"].fill(0)
            self.model["transposed"].fill(0)
        for layer, W in zip(self.layers, weights, strict=True):
            if self.rounded:
                to_panels(paired(W), self.model["weights"], layer["weights"] // 2, layer["rows"] // 2)
            if not transposed or layer["transposed"] < 0:
                continue
            if self.rounded:
                to_panels(paired(W.T), self.model["transposed"], layer["transposed"] // 2, layer["columns"] // 2)
            else:
                to_panels(W.T, self.model["transposed"], layer["transposed"], layer["columns"])

    # ---- running ---------------------------------------------------------------------------------------------------

    def _room(self, rows: int) -> Room:
        rows = rows_of_room(rows, self.precision)
        if rows not in self._rooms:
            while len(self._rooms) > 3:
                del self._rooms[next(iter(self._rooms))]
            self._rooms[rows] = Room(self, rows)
        return self._rooms[rows]

    def _threads(self, operations: float, passes: int, most: int) -> int:
        """Threads worth starting for so many operations in so many passes, each of `most` parts at most."""
        threads = min(numba.get_num_threads(), most)
        gain = operations / speed(self.dtype) * (1 - 1 / threads)
        return threads if gain > 3 * (passes * PASS_SECONDS + region_seconds()) else 1

    def epochs(self, X, T, sample_weight, settings, batch_size, order=None, loss_offsets=None, subset=None) -> "Epochs":
        """Training passes over the examples of X and T."""
        return Epochs(self, X, T, sample_weight, settings, batch_size, order, loss_offsets, subset)

    def deltas(self, X, T) -> Arrays:
        """delta^(2) ... delta^(L) (eq. 8-9), (m, n_l) each."""
        m = X.shape[0]
        result = [np.empty((m, n), self.dtype) for n in self.sizes[1:]]
        for begin in range(0, m, CHUNK_ROWS):
            rows = slice(begin, min(begin + CHUNK_ROWS, m))
            count = rows.stop - begin
            epoch = self._pass(X[rows], T[rows], None, "store")
            for delta, layer in zip(result, epoch.room.plan.layers, strict=True):
                delta[rows] = from_panels(
                    epoch.room.arrays["deltas"], layer["a_out"], epoch.room.plan.rows, (count, layer["n_out"])
                )
        return result

    def forward(
        self, X, out: np.ndarray | None = None, check: bool = True, largest: bool = False, layers: int | None = None
    ) -> np.ndarray:
        """h_{W,b}(X) (eq. 7), in chunks of rows, into out, (m, n_out) and C-contiguous, or into a new array.

        With `largest` the place of each example's largest output instead, (m,) of int64; with `layers` what the first
        so many layers of weights make of X.
        """
        m = X.shape[0]
        layers = len(self.layers) if layers is None else layers
        if out is None:
            out = np.empty(m, np.int64) if largest else np.empty((m, self.sizes[layers]), self.dtype)
        if m == 0:
            return out
        # Ctrl-C waits for a call's rows
        rows = padded(max(1, int(SLICE_SECONDS / first_guess(2.0 * self.work, 1, self.dtype))), TILE_ROWS)
        for begin in range(0, m, rows):
            part = slice(begin, begin + rows) if rows < m else slice(None)
            if self._forward(X[part], out[part], largest, layers) and check:
                raise not_finite_error(X, self.dtype, "X") or FloatingPointError("X changed while it was read")
        return out

    def hidden(self, X, layer: int, check: bool = True) -> np.ndarray:
        """a of the layer-th hidden layer, counted from 0 (eq. 7), (m, n_l)."""
        return self.forward(X, check=check, layers=layer + 1)

    def _forward(self, X, out: np.ndarray, largest: bool, layers: int) -> bool:
        """`forward` in one call; returns whether a number of X was not finite."""
        m = X.shape[0]
        with ThreadShare(self._threads(2.0 * self.work * m, 1, -(-m // TILE_ROWS))) as threads:
            return self._forward_on(threads, X, out, largest, layers)

    def _forward_on(self, threads: int, X, out: np.ndarray, largest: bool, layers: int) -> bool:
        m = X.shape[0]
        chunk = min(padded(-(-m // threads), TILE_ROWS), CHUNK_ROWS // 2)
        plan = _layout.layout(self.sizes, self.activation, self.output, self.dtype, chunk)
        source = Source(X, self.dtype)
        room = padded(plan.activations, 16 * panel_of(self.dtype))
        activations = aligned(room * threads, self.dtype)
        a_rows = aligned(room * threads // 2 + BEHIND, PAIR) if self.rounded else activations
        not_finite = aligned(threads, np.int64)
        step = make_step(
            layers=plan.layers,
            n_layers=layers,
            parameters=self.model["parameters"],
            weights=self.weights_operand(),
            activations=activations,
            a_rows=a_rows,
            not_finite=not_finite,
            x_gather=source.gather,
            x_source=source.address,
            m=m,
            batch_size=chunk,
            room=room,
            out=out,
            largest=largest,
        )
        chunks = compiled_prediction(self.dtype, self.precision)
        call_on_threads(chunks.address, step, activations, threads)
        return bool(not_finite.any())

    def forward_one(self, x: np.ndarray) -> np.ndarray:
        """h_{W,b}(x) for one example x, (1, n_in); the output is (1, n_out)."""
        with self._one_lock:
            if self._one is None:
                self._one = self._prepare_one()
            stage, out, not_finite, run, address, place, _ = self._one
            stage[:] = x
            run(address, place, 0, 1)
            if not_finite[0]:
                not_finite[0] = 0
                raise not_finite_error(x, self.dtype, "X") or FloatingPointError("X changed while it was read")
            return out.copy()

    def _prepare_one(self) -> tuple:
        plan = _layout.layout(self.sizes, self.activation, self.output, self.dtype, TILE_ROWS)
        room = max(padded(n, 16 * panel_of(self.dtype)) for n in self.sizes)
        buffer = aligned(3 * room, self.dtype)  # x, then two rooms for the layers' outputs in turn
        rows = aligned(buffer.size // 2, PAIR) if self.rounded else buffer
        not_finite = aligned(1, np.int64)
        step = make_step(
            layers=plan.layers,
            n_layers=len(plan.layers),
            parameters=self.model["parameters"],
            weights=self.weights_operand(),
            activations=buffer,
            a_rows=rows,
            not_finite=not_finite,
            room=room,
        )
        begin = (1 + (len(plan.layers) - 1) % 2) * room
        out = buffer[begin : begin + self.sizes[-1]].reshape(1, -1)
        one = compiled_one(self.dtype, self.precision)
        stage, run = buffer[: self.sizes[0]].reshape(1, -1), callable_at(one.address, 4)
        return stage, out, not_finite, run, step.ctypes.data, buffer.ctypes.data, (plan, step, one, rows)


def windows_of(m: int, batch_size: int, rows: int) -> list[tuple[int, int]]:
    """Where windows of about so many examples begin: the first example of each and its chunk, and both their ends.

    A window has whole minibatches, or, where one of these is larger, whole chunks of it as `begin_chunk` cuts them.
    """
    each = -(-batch_size // CHUNK_ROWS)
    minibatches = -(-m // batch_size)
    if rows >= m:
        found = [(0, 0)]
    elif batch_size <= rows:
        step = rows // batch_size
        found = [(n * batch_size, n * each) for n in range(0, minibatches, step)]
    else:
        found = []
        for n in range(minibatches):
            begin, size = n * batch_size, min(batch_size, m - n * batch_size)
            chunks = -(-size // CHUNK_ROWS)
            chunk = padded(-(-size // chunks), TILE_ROWS)
            step = max(1, rows // chunk)
            found += [(begin + k * chunk, n * each + k) for k in range(0, -(-size // chunk), step)]
    return [*found, (m, minibatches * each)]


class Epochs(EpochsBase):
    """Passes over the examples of X and T; each is begun, then run in parts until its `chunks` are `done`.

    Parameters
    ----------
    settings : dict
        "rule" and what the rule needs: momentum, beta_1, beta_2, epsilon, weight_decay, max_norm. And "remember",
        whether a pass keeps the weights that it begins with, for `largest_change` and `go_back`.
    order : ndarray of int64, "shuffled" or None
        The examples that a pass takes, in order; the array is read anew by every pass. SHUFFLED is a new random order
        of all of them for every pass, None the order in which they are.
    loss_offsets : ndarray of float64, optional
        What is added to the loss of each example.
    subset : ndarray of int64, optional
        The examples that there are, in place of all; an order of its own must be of these.
    """

    def __init__(
        self, trainer: Trainer, X, T, sample_weight, settings, batch_size, order=None, loss_offsets=None, subset=None
    ):
        self.trainer, self.X, self.T = trainer, X, T
        shuffle = isinstance(order, str)
        self.stream = X if isinstance(X, Stream) else None
        if self.stream is not None:  # it has the order, and the step that of a window
            self._shuffles, shuffle, order = shuffle, False, None
        elif shuffle:
            order = np.empty(X.shape[0] if subset is None else len(subset), np.int64)
        elif order is None:
            order = subset
        self.m = m = X.shape[0] if order is None else len(order)
        self.chunks_each = -(-batch_size // CHUNK_ROWS)
        self.chunks = -(-m // batch_size) * self.chunks_each
        self.batch_size = batch_size
        self.room: Any = None  # where the last run was
        if self.stream is not None:
            X, T = self.stream.like
            self._windows = windows_of(m, batch_size, self.stream.window_rows)
            self._window = -1
        self._sources = x, t = Source(X, trainer.dtype), Source(T, trainer.dtype, trainer.sizes[-1])
        self._kept = order, subset, sample_weight, loss_offsets  # the step has their addresses
        looks_only = settings["rule"] in ("store", "evaluate")
        max_norm = settings.get("max_norm")
        self.whole = batch_size > CHUNK_ROWS or settings["rule"] == "store" or max_norm is not None
        rows = rows_of_room(batch_size, trainer.precision)
        network = trainer.sizes, trainer.activation, trainer.output, trainer.dtype, trainer.precision
        self.kind = Kind(*network, rows, self.whole)
        work = (2.0 if settings["rule"] == "evaluate" else 6.0) * trainer.work
        self._seconds_a_chunk = first_guess(work, m / self.chunks, trainer.dtype)
        self.threads = trainer._threads(work * m, 2 * self.chunks, 1 << 30)
        self._short = self.threads > 1 and work * min(batch_size, CHUNK_ROWS) < SHORT_SECONDS * speed(trainer.dtype)
        self._runs = 0
        self._paces: dict[int, float] = {}
        dropout = 0.0 if looks_only else trainer.dropout
        self._model = trainer.model.copy()  # set_moments may give the trainer others
        self.step = make_step(
            None,
            **{"weights": trainer.weights_operand(), **trainer.model},
            remembered=trainer.remembered() if settings.get("remember") else 0,
            n_parameters=trainer.model["parameters"].size,
            parameter_words=trainer.model["parameters"].nbytes // 8,
            x_gather=x.gather,
            x_source=x.address,
            t_gather=t.gather,
            t_source=t.address,
            order=0 if order is None else order,
            shuffle=shuffle,
            subset=0 if subset is None or not shuffle else subset,
            sample_weight=0 if sample_weight is None else sample_weight,
            loss_offsets=0 if loss_offsets is None else loss_offsets,
            loss=loss_code(trainer.loss),
            loss_f=trainer.loss_functions[0],
            loss_df=trainer.loss_functions[1],
            lowest_loss=trainer.loss_limits[0],
            highest_loss=trainer.loss_limits[1],
            l2=trainer.l2,
            l2_per_example=trainer.l2_per_example,
            m=m,
            batch_size=batch_size,
            clip=max_norm is not None,
            threshold=min(round(dropout * 2**32), 2**32 - 1),
            keep=1.0 - dropout,
            rule=RULES[settings["rule"]],
            to_phase=UPDATE,
            to_layer=len(trainer.layers),
            finite=True,
            **trainer.rule_numbers(settings),
        )
        self._words, self._reals = self.step.view(np.int64), self.step.view(np.float64)
        self.address = self.step.ctypes.data
        self.begin(check=True)

    def begin(self, check=False, learning_rate=0.0, updates=0, order_seed=0, dropout_seed=0) -> None:
        """Start a pass; with check it also looks for numbers in X and T that are not finite."""
        if self.stream is not None:
            check = True  # what is read may be other numbers than in the pass before
            self.stream.begin([first for first, _ in self._windows], order_seed if self._shuffles else None)
            self._window = -1
        words = self._words  # setting a field of the record takes longer
        words[CHECK], words[UPDATES], self._reals[LEARNING_RATE] = check, updates, learning_rate
        words[ORDER_SEED], words[DROPOUT_SEED] = order_seed, dropout_seed
        self.done = 0

    def run(self, last: int) -> None:
        """Go on until `last` chunks are done."""
        if self.stream is None:
            self._run(last)
        while self.done < last:
            if self._window < 0 or self.done == self._windows[self._window + 1][1]:
                self._open(self._window + 1)
            self._run(min(last, self._windows[self._window + 1][1]))
            self.refuse_not_finite()

    def _open(self, number: int) -> None:
        """Let the step read the examples of a window of the stream."""
        X, T, order = self.stream.window(number)
        dtype, outputs = self.trainer.dtype, self.trainer.sizes[-1]
        self._sources = x, t = Source(X, dtype), Source(T, dtype, outputs)
        self._kept, self._window = order, number
        step, (first, _) = self.step[0], self._windows[number]
        step["x_gather"], step["x_source"] = x.gather, x.address
        step["t_gather"], step["t_source"] = t.gather, t.address
        step["order"] = order.ctypes.data - order.itemsize * first  # examples are counted over the epoch

    def _run(self, last: int) -> None:
        first, begin = self.done, time.perf_counter()
        self.aim_at(last)
        self.room = room = self.trainer._room(self.batch_size)
        room.prepare(self.threads, self.whole)
        self._words[:ROOM_WORDS] = room.step.view(np.int64)[:ROOM_WORDS]
        assemble(room.arrays["team"])
        with ThreadShare(self._choose_threads()) as threads:
            call_on_threads(compiled_epoch().address, self.step, room.arrays["activations"], threads)
        self._paces[threads] = (time.perf_counter() - begin) / max(1, last - first)
        self.done = last

    def aim_at(self, last: int) -> None:
        """Let the step say that the chunks up to `last` are to be done."""
        self._words[FROM_CHUNK], self._words[TO_CHUNK] = self.done, last

    def done_in(self, seconds: float) -> None:
        """What was aimed at is done, and took a thread about so long."""
        self._seconds_a_chunk = max(seconds / max(1, self.chunks - self.done), 1e-9)
        self.done = self.chunks

    def wait(self) -> None:
        """Nothing is under way: `run` returns when it is done."""

    def _choose_threads(self) -> int:
        """All threads or one, whichever was faster of late: where passes are short, a busy processor makes one win.

        The weights do not depend on it. Now and then both are tried again.
        """
        if not self._short:
            return self.threads
        self._runs += 1
        trial = self._runs % RUNS_BETWEEN_TRIALS
        if trial in (1, 2):
            return self.threads
        return 1 if trial == 3 else min(self._paces, key=self._paces.__getitem__)

    def mean_loss(self) -> float:
        """The mean over the examples seen of their minibatches' weighted mean loss, without eq. 5."""
        return float(self._reals[LOSS_SUM]) / self.m

    def sums(self) -> tuple[Arrays, Arrays]:
        """U and V (eq. 10-11) of the last minibatch, with the rule "store"."""
        return self.trainer._read(self.room.arrays["gradients"])

    def mean_penalty(self) -> float:
        """Eq. 5 averaged over the minibatches as they were seen, each counted by its number of examples."""
        return float(self._reals[SQUARE_SUM]) / self.m

    def met_not_finite(self) -> bool:
        """Whether a number of X or T was not finite."""
        return bool(self._words[BAD_INPUT])

    def left_finite(self) -> bool:
        """Whether every weight and bias is finite behind what was run."""
        return bool(self._words[FINITE])

    def shares_well(self) -> bool:
        """Whether all threads together make one pass about as much faster as they are many."""
        return self.threads > 1 and not self._short


class Together:
    """Passes of many networks in one compiled call, each by one thread alone, in a room that the thread keeps.

    Networks of the same widths use the same rooms, and all rooms of a thread lie in the same memory: however many
    networks there are, they take what the largest takes, and it stays in the cache.
    """

    def __init__(self) -> None:
        self._arenas: list[Arena] = []  # of each thread
        self._rooms: dict[Kind, list[Room]] = {}  # of each kind one for each thread

    def _rooms_of(self, kind: Kind, threads: int) -> list[Room]:
        rooms = self._rooms.setdefault(kind, [])
        for thread in range(len(rooms), threads):
            if thread == len(self._arenas):
                self._arenas.append(Arena())
            rooms.append(Room(kind, kind.rows, self._arenas[thread].begin()))
            rooms[-1].prepare(1, kind.whole)
        return rooms[:threads]

    def run(self, passes: list[Epochs]) -> None:
        """Run passes to their ends."""
        kinds: dict[Kind, int] = {}
        pairs = np.array([(epochs.address, kinds.setdefault(epochs.kind, len(kinds))) for epochs in passes], np.int64)
        for epochs in passes:
            epochs.aim_at(epochs.chunks)
        function = compiled_together().address
        expected = sum(epochs.seconds() for epochs in passes)
        wanted = min(numba.get_num_threads(), len(passes))
        with ThreadShare(wanted) as threads:
            rooms = [room.step.ctypes.data for kind in kinds for room in self._rooms_of(kind, threads)]
            steps = np.array(rooms, np.int64)
            table = aligned(TOGETHER_WORDS, np.int64)
            table[COUNT], table[EPOCHS], table[ROOMS] = len(passes), pairs.ctypes.data, steps.ctypes.data
            begin = time.perf_counter()
            call_on_threads(function, table, table, threads)
        took = (time.perf_counter() - begin) * threads / max(expected, 1e-9)
        for epochs in passes:
            epochs.done_in(took * epochs.seconds())
