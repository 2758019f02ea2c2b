"""The GPU's side of a network: its parameters and data in the device's memory, and launches of the kernels."""

from itertools import pairwise
from typing import Any

import numpy as np
from numba import cuda

from fastmlp.backend import Arrays, EpochsBase, TrainerBase
from fastmlp.codes import ADAM, EVALUATE, RULES, STORE, loss_code
from fastmlp.cpu.compiling import callable_at
from fastmlp.cpu.epoch import compiled_shuffle
from fastmlp.cpu.layout import bfloat16_bits
from fastmlp.cpu.supplied import compiled_map
from fastmlp.cuda import data as _data
from fastmlp.cuda.epoch import Supplied
from fastmlp.cuda.launch import Launch, machine
from fastmlp.cuda.layout import CHUNK_ROWS, PREDICT, STEP, Plan, layout, plan
from fastmlp.cuda.reduction import largest_difference
from fastmlp.inputs import not_finite_error
from fastmlp.streaming import Stream

MOST_MOMENTS = 2


def seconds_an_epoch(settings: tuple[Any, ...], examples: int, batch_size: int) -> float:
    """The cost rule's guess of how long an epoch of a trainer with these settings takes."""
    sizes, activation, output, _, _, dtype, *_, precision = settings
    chunks, real = -(-batch_size // CHUNK_ROWS), np.dtype(dtype).type
    rows = -(-batch_size // chunks)
    found = plan(tuple(sizes), activation, output, real, rows, chunks, ADAM, False, machine(), precision)
    base = layout(tuple(sizes), activation, output, real, precision)
    needed = (found.room + 4 * base.parameters + base.low) * np.dtype(dtype).itemsize
    if needed > 0.5 * _data.free_bytes():
        raise MemoryError(f"{needed} bytes are needed")
    return found.seconds * chunks * -(-examples // batch_size)


class Trainer(TrainerBase):
    """A network on the GPU; the parameters are TrainerBase's."""

    def __init__(self, *settings, **more):
        super().__init__(*settings, **more)
        self.real: Any = self.dtype.type
        self.layout = layout(self.sizes, self.activation, self.output, self.real, self.precision)
        self._kept = self.layout.parameters + self.layout.low  # numbers of the model before the moments
        pieces = self.activation, self.output, self.loss
        self.supplied = Supplied(*(None if isinstance(piece, str) else piece for piece in pieces))
        for piece, arguments in zip(self.supplied, (1, 1, 2)):
            if piece is not None:  # what the CPU cannot compile is told of now, and in few words
                compiled_map(piece.plain_f, arguments, self.dtype), compiled_map(piece.plain_df, arguments, self.dtype)
        self._count = 0
        self._model = _data.zeros(self._kept, self.dtype)
        self._remembered: Any = None
        self._finite = True

    # ---- parameters and the optimizer's state, as arrays of the lecture's shapes -----------------------------------

    def set_parameters(self, weights: Arrays, biases: Arrays, training: bool = True) -> None:
        """Take over weights[l] (n_in, n_out) and biases[l] (n_out,)."""
        flat = self._flat(weights, biases)
        if self.layout.low:  # W in bfloat16, which the updates keep up from here on
            halves = bfloat16_bits(flat[: self.layout.weights_end]).astype(np.uint16)
            flat = np.concatenate([flat, halves.view(self.dtype)])
        self._model[: self._kept].copy_to_device(flat)
        self._finite = True

    def parameters(self) -> tuple[Arrays, Arrays]:
        """Copies of the weights and biases."""
        return self._read(self._part(0).copy_to_host())

    def set_moments(self, moments: list[tuple[Arrays, Arrays]]) -> None:
        """Take over the optimizer's state: for each moment one array for each of the weights and biases."""
        self.start_moments(len(moments))
        for n, moment in enumerate(moments):
            self._part(n + 1).copy_to_device(self._flat(*moment))

    def start_moments(self, count: int) -> None:
        """Fresh optimizer state: `count` moments of zeros."""
        if count != self._count:
            model = _data.zeros(self._kept + count * self.layout.parameters, self.dtype)
            model[: self._kept].copy_to_device(self._model[: self._kept])
            self._model, self._count = model, count
        for n in range(count):
            size = self.layout.parameters * self.dtype.itemsize
            cuda.cudadrv.driver.device_memset(self._part(n + 1), 0, size)

    def moments(self) -> list[tuple[Arrays, Arrays]]:
        """Copies of the optimizer's state."""
        return [self._read(self._part(n + 1).copy_to_host()) for n in range(self._count)]

    def snapshot(self) -> Any:
        """A copy of all that training changes, for `restore`."""
        copy = _data.empty(self._model.size, self.dtype)
        copy.copy_to_device(self._model)
        return self._count, copy

    def restore(self, snapshot: Any) -> None:
        """Go back to a snapshot."""
        count, copy = snapshot
        self.start_moments(count)
        self._model.copy_to_device(copy)
        self._finite = True

    def remember(self) -> None:
        """Keep a copy of the weights and biases, for `largest_change` and `go_back`."""
        if self._remembered is None:
            self._remembered = _data.empty(self._kept, self.dtype)
        self._remembered.copy_to_device(self._model[: self._kept])

    def largest_change(self) -> float:
        """The largest change of a weight or bias since `remember`."""
        return largest_difference(self._part(0), self._remembered[: self.layout.parameters])

    def is_finite(self) -> bool:
        """Whether every weight and bias is finite; the updates look at what they write."""
        return self._finite

    def go_back(self) -> None:
        """Return to the remembered weights and biases."""
        self._model[: self._kept].copy_to_device(self._remembered)
        self._finite = True

    def nbytes(self, batch_size: int) -> int:
        """Bytes on the device that training with such minibatches takes, X, T and their order aside."""
        chunks = -(-batch_size // CHUNK_ROWS)
        room = self.plan(-(-batch_size // chunks), chunks, ADAM).room
        return (room + self._model.size + self._kept) * self.dtype.itemsize

    def _part(self, n: int) -> Any:
        """The parameters (0) or a moment of them on the device."""
        begin = self._kept + (n - 1) * self.layout.parameters if n else 0
        return self._model[begin : begin + self.layout.parameters]

    def _flat(self, weights: Arrays, biases: Arrays) -> np.ndarray:
        """Weights and biases as they lie on the device."""
        flat = np.zeros(self.layout.parameters, self.dtype)
        for layer, W, b in zip(self.layout.layers, weights, biases, strict=True):
            stride = int(layer["out_stride"])
            flat[layer["weights"] :][: len(W) * stride].reshape(-1, stride)[:, : W.shape[1]] = W
            flat[layer["biases"] :][: len(b)] = b
        return flat

    def _read(self, flat: np.ndarray) -> tuple[Arrays, Arrays]:
        weights, biases = [], []
        for layer in self.layout.layers:
            rows, columns, stride = int(layer["n_in"]), int(layer["n_out"]), int(layer["out_stride"])
            weights.append(flat[layer["weights"] :][: rows * stride].reshape(rows, stride)[:, :columns].copy())
            biases.append(flat[layer["biases"] :][:columns].copy())
        return weights, biases

    # ---- running ---------------------------------------------------------------------------------------------------

    def plan(self, rows: int, chunks_each: int, rule: int, clip: bool = False) -> Plan:
        """The program for chunks of so many examples."""
        where = machine()
        network = self.sizes, self.activation, self.output, self.real
        return plan(*network, rows, chunks_each, rule, clip, where, self.precision)

    def chunks_at_once(self, m: int, X, T, weights, offsets, chunk_rows: int, chunks: int, needed: int) -> int:
        """How many chunks of m examples like X fit on the device beside so many bytes: all, or as many as fit twice."""
        free = _data.free_bytes()
        left = _data.SHARE * free - needed
        row = _data.Columns.of(X, T, weights, offsets, self.dtype).row_bytes
        if m * row <= left:
            return chunks
        if left < 2 * row * chunk_rows:
            raise MemoryError(
                f"the GPU has {free / 1e9:.2f} GB of free memory; this network needs {needed / 1e9:.2f} GB, and twice "
                f"{chunk_rows * row / 1e9:.2f} GB for {chunk_rows} examples at a time. Try a smaller batch_size, a "
                f"smaller network, or device='cpu'"
            )
        return max(1, int(min(left / 2, _data.WINDOW_BYTES) / row / chunk_rows))

    def epochs(
        self, X, T, sample_weight, settings, batch_size, order=None, loss_offsets=None, subset=None
    ) -> "Epochs":
        """Training passes over the examples of X and T."""
        return Epochs(self, X, T, sample_weight, settings, batch_size, order, loss_offsets, subset)

    def deltas(self, X, T) -> Arrays:
        """delta^(2) ... delta^(L) (eq. 8-9), (m, n_l) each."""
        m = X.shape[0]
        result = [np.empty((m, n), self.dtype) for n in self.sizes[1:]]
        for begin in range(0, m, CHUNK_ROWS):
            rows = slice(begin, min(begin + CHUNK_ROWS, m))
            epoch = self._pass(X[rows], T[rows], None, "store")
            if epoch.chunks_each > 1:  # too little memory for so many at once
                parts = rows.start + np.linspace(0, rows.stop - rows.start, epoch.chunks_each + 1).astype(int)
                for part in map(slice, parts[:-1], parts[1:]):
                    for delta, found in zip(result, self.deltas(X[part], T[part]), strict=True):
                        delta[part] = found
                continue
            launch = epoch.launch
            for delta, layer in zip(result, launch.plan.layers, strict=True):
                stride, place = int(layer["out_stride"]), int(layer["d_out"])
                flat = launch.room[place : place + (rows.stop - rows.start) * stride].copy_to_host()
                delta[rows] = flat.reshape(-1, stride)[:, : delta.shape[1]]
        return result

    def forward(self, X, out: np.ndarray | None = None, check: bool = True, largest: bool = False) -> np.ndarray:
        """h_{W,b}(X) (eq. 7), in chunks of rows, into out, (m, n_out) and C-contiguous, or into a new array.

        With `largest` the place of each example's largest output instead, (m,) of int64.
        """
        m, n_out = X.shape[0], self.sizes[-1]
        if out is None:
            out = np.empty(m, np.int64) if largest else np.empty((m, n_out), self.dtype)
        if m == 0:
            return out
        rows = min(m, CHUNK_ROWS)
        todo = self.plan(rows, 1, PREDICT)
        each = rows * (1 if largest else n_out)
        needed = (todo.room + 2 * each + self._model.size) * self.dtype.itemsize
        chunks = -(-m // rows)
        fitting = self.chunks_at_once(m, X, None, None, None, rows, chunks, needed)
        bounds = [*range(0, m, fitting * rows), m]
        at_once = min(fitting, 16)  # chunks whose outputs are kept on the device
        step = make_step(
            n_stages=len(todo.stages), m=m, batch_size=rows, chunk_rows=rows, chunks_each=1, rule=PREDICT,
            keep=1.0, largest=largest, out=todo.room, x_columns=self.sizes[0], **todo.places,
        )  # fmt: skip
        more_room = min(m, at_once * rows) * (each // rows)
        launch = Launch(todo, self.real, self._model, step, more_room=more_room, supplied=self.supplied)
        data = _data.Data(X, None, None, None, self.dtype, bounds, False)
        update_step(step, data.fields())
        width = each // rows
        for number, window in enumerate(pairwise(bounds)):
            arrays = data.arrays[0] if data.resident else data.open(number, launch.stream)
            update_step(step, {"x_begin": window[0]})
            for begin in range(*window, at_once * rows):
                end = min(begin + at_once * rows, window[1])
                launch.run(begin // rows, -(-end // rows), arrays)
                launch.stream.synchronize()
                found = launch.room[todo.room : todo.room + (end - begin) * width].copy_to_host()
                out[begin:end] = found.astype(np.int64) if largest else found.reshape(-1, n_out)
            if not data.resident:
                data.close(number, launch.stream)
        if check and launch.sums[int(step[0]["bad_input"])] != 0.0:
            raise not_finite_error(X, self.dtype, "X") or FloatingPointError("a number of X changed while it was read")
        return out

    def forward_one(self, x: np.ndarray) -> np.ndarray:
        """h_{W,b}(x) for one example x, (1, n_in); the output is (1, n_out)."""
        return self.forward(x)


def make_step(**values: Any) -> np.ndarray:
    """A step with some fields set."""
    step = np.zeros(1, STEP)
    update_step(step, values)
    return step


def update_step(step: np.ndarray, values: dict[str, Any]) -> None:
    """Set some fields of a step."""
    for name, value in values.items():
        step[0][name] = value


class Epochs(EpochsBase):
    """Passes over the examples of X and T; the parameters are those of `fastmlp.cpu.trainer.Epochs`."""

    def __init__(
        self, trainer: Trainer, X, T, sample_weight, settings, batch_size, order=None, loss_offsets=None, subset=None
    ):
        self.trainer, self.X, self.T, self._subset = trainer, X, T, subset
        self._shuffles = isinstance(order, str)
        m = X.shape[0] if subset is None else len(subset)
        self.stream = X if isinstance(X, Stream) else None
        if self.stream is not None:  # it has the order
            (X, T), order = self.stream.like, None
        elif order is None:
            order = subset
        self._order = np.empty(m, np.int64) if self._shuffles and self.stream is None else order
        self.m = m = m if order is None or self._shuffles else len(order)
        rule, max_norm = RULES[settings["rule"]], settings.get("max_norm")
        self._rule, self._settings, self._weight, self._batch_size = rule, settings, sample_weight, batch_size
        looks_only = settings["rule"] in ("store", "evaluate")
        self.chunks_each = -(-batch_size // CHUNK_ROWS)
        while True:
            chunk_rows = -(-batch_size // self.chunks_each)
            todo = trainer.plan(chunk_rows, self.chunks_each, rule, max_norm is not None)
            needed = (todo.room + trainer._model.size) * trainer.dtype.itemsize
            if needed < 0.5 * _data.free_bytes() or chunk_rows <= 1024:
                break
            self.chunks_each *= 2
        self.minibatches = -(-m // batch_size)
        self.chunks = self.minibatches * self.chunks_each
        self._at_once = trainer.chunks_at_once(m, X, T, sample_weight, loss_offsets, chunk_rows, self.chunks, needed)
        if self.stream is not None and self.stream.window_rows < m:
            self._at_once = max(1, min(self._at_once, self.stream.window_rows // chunk_rows))
        firsts = np.arange(0, self.chunks, self._at_once)
        begins = firsts // self.chunks_each * batch_size + firsts % self.chunks_each * chunk_rows
        bounds = [*np.minimum(begins, m).tolist(), m]
        dropout = 0.0 if looks_only else trainer.dropout
        step = make_step(
            n_stages=len(todo.stages), first_stages=todo.first_stages, m=m, batch_size=batch_size,
            chunk_rows=chunk_rows, chunks_each=self.chunks_each, rule=rule, loss=loss_code(trainer.loss),
            threshold=min(round(dropout * 2**32), 2**32 - 1), keep=1.0 - dropout,
            l2_per_example=trainer.l2_per_example, weights_end=trainer.layout.weights_end,
            parameters=trainer.layout.parameters, low=trainer.layout.parameters, first=trainer._kept,
            second=trainer._kept + trainer.layout.parameters, l2=trainer.l2, lowest_loss=trainer.loss_limits[0],
            highest_loss=trainer.loss_limits[1], **todo.places, **trainer.rule_numbers(settings),
        )  # fmt: skip
        ordered = self._order is not None
        self._data = _data.Data(X, T, sample_weight, loss_offsets, trainer.dtype, bounds, ordered, self.stream)
        update_step(step, self._data.fields())
        self.launch = Launch(
            todo, trainer.real, trainer._model, step, more_sums=2 * self.minibatches, supplied=trainer.supplied
        )
        self._seconds_a_chunk = max(todo.seconds, 1e-7)
        self._sums: np.ndarray | None = None
        self.begin(check=True)

    def begin(self, check=False, learning_rate=0.0, updates=0, order_seed=0, dropout_seed=0) -> None:
        """Start a pass; each looks for numbers in X and T that are not finite, whatever `check` says."""
        if self._settings.get("remember"):
            self.trainer.remember()
        step = self.launch.step
        update_step(step, {"learning_rate": learning_rate, "dropout_seed": dropout_seed})
        if self.stream is not None:
            self.stream.begin(self._data.bounds, order_seed if self._shuffles else None)
        elif self._shuffles:
            shuffle = callable_at(compiled_shuffle().address, 4)
            subset = 0 if self._subset is None else self._subset.ctypes.data
            shuffle(self._order.ctypes.data, subset, self.m, order_seed)
        self._data.begin(self._order, self.launch.stream)
        sums = np.zeros(self.launch.sums.size)
        rates = sums[self.launch.plan.sums :].reshape(-1, 2)
        rates[:, 0] = self._scales()
        number = updates + 1.0 + np.arange(self.minibatches)
        beta_1, beta_2 = (self._settings.get(name) or 0.0 for name in ("beta_1", "beta_2"))
        rates[:, 1] = learning_rate * np.sqrt(1.0 - beta_2**number) / (1.0 - beta_1**number)
        self._copied = sums  # not freed before the copy is made
        _data.copy(self.launch.sums, sums, self.launch.stream)
        self.done, self._sums = 0, None

    def _scales(self) -> np.ndarray:
        """Of each minibatch 1 / (the sum of its examples' weights), zero where they are all zero."""
        starts = np.arange(0, self.m, self._batch_size)
        if self._weight is None:
            return 1.0 / np.minimum(self._batch_size, self.m - starts)
        weight = self._weight if self._order is None else self._weight[self._order]
        totals = np.add.reduceat(weight[: self.m], starts)
        return np.divide(1.0, totals, out=np.zeros(len(totals)), where=totals != 0)

    def run(self, last: int) -> None:
        """Go on until `last` chunks, or the rest of their minibatch, are done."""
        last = min(self.chunks, -(-last // self.chunks_each) * self.chunks_each)
        self.launch.use(self.trainer._model)
        self._sums = None
        data, launch = self._data, self.launch
        if data.resident:
            launch.run(self.done, last, data.arrays[0])
            self.done = last
            return
        while self.done < last:
            number = self.done // self._at_once
            arrays = data.open(number, launch.stream)
            end = min(last, (number + 1) * self._at_once)
            update_step(launch.step, {"x_begin": data.bounds[number]})
            launch.run(self.done, end, arrays)
            data.close(number, launch.stream)
            self.done = end

    def wait(self) -> None:
        """Wait until the chunks that were run are done."""
        self.launch.stream.synchronize()

    def _read_sums(self) -> np.ndarray:
        """What the kernels have added up; waits for them."""
        if self._sums is None:
            self.launch.stream.synchronize()
            self._sums = self.launch.sums.copy_to_host()
            if self._rule not in (STORE, EVALUATE):
                self.trainer._finite = self._sums[int(self.launch.step[0]["bad_weight"])] == 0.0
        return self._sums

    def mean_loss(self) -> float:
        """The mean over the examples seen of their minibatches' weighted mean loss, without eq. 5."""
        return float(self._read_sums()[: int(self.launch.step[0]["squares"])].sum()) / self.m

    def sums(self) -> tuple[Arrays, Arrays]:
        """U and V (eq. 10-11) of the last minibatch, with the rule "store"."""
        self.launch.stream.synchronize()
        place = int(self.launch.step[0]["gradients"])
        flat = self.launch.room[place : place + self.trainer.layout.parameters].copy_to_host()
        return self.trainer._read(flat)

    def mean_penalty(self) -> float:
        """Eq. 5 averaged over the minibatches as they were seen, each counted by its number of examples."""
        step = self.launch.step[0]
        return float(self._read_sums()[int(step["squares"]) : int(step["norms"])].sum()) / self.m

    def met_not_finite(self) -> bool:
        """Whether a number of X or T was not finite."""
        return bool(self._read_sums()[int(self.launch.step[0]["bad_input"])] != 0.0)
