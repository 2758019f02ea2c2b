"""h_{W,b}(x) for many examples, for one, or for a few with plain matrices (eq. 7), keeping nothing but the output."""

import functools

import numba
import numpy as np
from numba import from_dtype, types

from fastmlp.cpu import compiling
from fastmlp.cpu.activation import activate, softmax
from fastmlp.cpu.compiling import callable_at, kernel
from fastmlp.cpu.epoch import nothing_if_finite
from fastmlp.cpu.forward import SUM_PANELS, forward
from fastmlp.cpu.layout import IDENTITY, LAYER, SOFTMAX, STEP, layout, padded
from fastmlp.cpu.vector import (
    TILE_ROWS,
    call_gather,
    lanes,
    narrow_row,
    numbers_at,
    numbers_like,
    outer_product,
    panel_of,
    panel_width,
    plus_row,
    plus_tile,
    record_at,
    row_bytes,
    store_tile,
    tile_rows,
    wide_row,
    wide_tile,
)
from fastmlp.cpu.work import INT64


@kernel
def finish(layer, A, a, stride, rows):
    """The output layer's a from its z, in place, for `rows` rows of panels that lie `stride` apart."""
    P, V = panel_width(A), lanes(A)
    if layer.activation == SOFTMAX:
        for r in range(rows):
            softmax(layer, A, a + r * P, stride)
    elif layer.activation != IDENTITY:
        for p in range(layer.out_panels):
            activate(layer.activation, A, a + p * stride, (min(P, layer.n_out - p * P) + V - 1) // V, rows)


def predict_chunks(steps, rooms, share, shares):
    """Gather, forward (eq. 7) and write out[r, :], for a share of the chunks of step.batch_size examples.

    Each share has a room of its own for a chunk, and its own rows of `out`.
    """
    step = record_at(steps, 0, STEP)
    room = step.activations + share * step.room // panel_width(rooms) * row_bytes(rooms)
    A = numbers_like(room, rooms)
    parameters, out = numbers_like(step.parameters, A), numbers_like(step.out, A)
    not_finite = numbers_at(step.not_finite, INT64)
    P = panel_width(A)
    height = tile_rows(wide_tile(A))
    bottom, top = record_at(step.layers, 0, LAYER), record_at(step.layers, step.n_layers - 1, LAYER)
    chunks = (step.m + step.batch_size - 1) // step.batch_size
    for chunk in range(chunks * share // shares, chunks * (share + 1) // shares):
        begin = chunk * step.batch_size
        count = min(step.batch_size, step.m - begin)
        rows = (count + height - 1) // height * height
        call_gather(step.x_gather, step.x_source, 0, begin, count, room, bottom.stride)
        for r in range(count):
            if not nothing_if_finite(A, bottom.a_in + r * P, bottom.in_panels, bottom.n_in, bottom.stride) == 0.0:
                not_finite[share] = 1
        for l in range(step.n_layers):
            layer = record_at(step.layers, l, LAYER)
            forward(layer, layer.activation if l < step.n_layers - 1 else IDENTITY, parameters, A, 0, rows)
        finish(top, A, top.a_out, top.stride, rows)
        for r in range(count):
            for j in range(top.n_out):
                out[(begin + r) * top.n_out + j] = A[top.a_out + j // P * top.stride + r * P + j % P]


@kernel
def forward_row(zero, layer, p, parameters, A, a, z):
    """z_j = sum_i W_ji a_i + b_j (eq. 7) for one example and the destinations j of panel p.

    a and z are places in A of whole rows, panel after panel. The sums are forward_panel's, to the bit.
    """
    P = panel_width(A)
    W = layer.weights + p * layer.rows * P
    block = SUM_PANELS * P
    for first in range(0, layer.n_in, block):
        acc = zero
        for i in range(first, min(first + block, layer.n_in)):
            acc = outer_product(acc, A, a + i, 0, parameters, W + i * P)
        if first == 0:
            acc = plus_row(acc, parameters, layer.biases + p * P)
        else:
            acc = plus_tile(acc, A, z + p * P)
        store_tile(acc, A, z + p * P)


def predict_one(steps, A, share, shares):
    """The output for one example; it is bound by reading the weights once.

    A holds three rooms of step.room numbers, each for one row in panels: x is in the first, and the layers' outputs
    go to the second, the third, the second, ...
    """
    step = record_at(steps, 0, STEP)
    parameters, not_finite = numbers_like(step.parameters, A), numbers_at(step.not_finite, INT64)
    P, V = panel_width(A), lanes(A)
    bottom = record_at(step.layers, 0, LAYER)
    if not nothing_if_finite(A, 0, bottom.in_panels, bottom.n_in, P) == 0.0:
        not_finite[0] = 1
    for l in range(step.n_layers):
        layer = record_at(step.layers, l, LAYER)
        a, z = (0 if l == 0 else 1 + (l - 1) % 2) * step.room, (1 + l % 2) * step.room
        for p in range(layer.out_panels):
            if layer.n_out - p * P <= V:
                forward_row(narrow_row(A), layer, p, parameters, A, a, z)
            else:
                forward_row(wide_row(A), layer, p, parameters, A, a, z)
        finish(layer, A, z, P, 1)


# What predict_plain reads: addresses, and how many rows there are.
PLAIN_FIELDS = (
    "layers",
    "n_layers",
    "parameters",  # address of the addresses of W^(1), b^(1), W^(2), b^(2), ...
    "x",  # (rows, n_in), row by row
    "rows",
    "out",  # (rows, n_out), row by row
    "room",  # numbers for the outputs of a layer
)
PLAIN = np.dtype([(name, np.int64) for name in PLAIN_FIELDS])
INPUTS, ROWS, OUTPUTS = map(PLAIN_FIELDS.index, ("x", "rows", "out"))


def address_of(array):
    """Where an array's first number is."""
    return array.__array_interface__["data"][0]


def predict_plain(table, A, share, shares):
    """The outputs for a few rows of x, with each W as a plain matrix (n_in, n_out), row by row.

    Nothing is laid out first, so weights may have been changed by anyone. A holds two rooms of numbers for the outputs
    of the layers, in turn.
    """
    task = record_at(table, 0, PLAIN)
    parameters = numbers_at(task.parameters, INT64)
    P, V = panel_width(A), lanes(A)
    last = record_at(task.layers, task.n_layers - 1, LAYER)
    out = numbers_like(task.out, A)
    for r in range(task.rows):
        for l in range(task.n_layers):
            layer = record_at(task.layers, l, LAYER)
            W, b = numbers_like(parameters[2 * l], A), numbers_like(parameters[2 * l + 1], A)
            z = l % 2 * task.room
            source = numbers_like(task.x, A) if l == 0 else A
            a = r * layer.n_in if l == 0 else task.room - z
            wide = layer.n_out - layer.n_out % P
            narrow = layer.n_out - layer.n_out % V
            for j in range(0, wide, P):
                store_tile(plain_sums(wide_row(A), layer, source, a, W, b, j), A, z + j)
            for j in range(wide, narrow, V):
                store_tile(plain_sums(narrow_row(A), layer, source, a, W, b, j), A, z + j)
            for j in range(narrow, layer.n_out):
                total = b[j]
                for i in range(layer.n_in):
                    total += source[a + i] * W[i * layer.n_out + j]
                A[z + j] = total
            finish(layer, A, z, P, 1)
        for j in range(last.n_out):
            out[r * last.n_out + j] = A[(task.n_layers - 1) % 2 * task.room + j]


@kernel
def plain_sums(zero, layer, source, a, W, b, j):
    """z_j = sum_i W_ij a_i + b_j (eq. 7) for the destinations from j on that fill the row of a tile."""
    acc = zero
    for i in range(layer.n_in):
        acc = outer_product(acc, source, a + i, 0, W, i * layer.n_out + j)
    return plus_row(acc, b, j)


@functools.cache
def compiled_plain(real):
    """The prediction with plain matrices, compiled for networks of dtype real."""
    word = types.intp
    signature = types.void(word, types.CPointer(from_dtype(real)), word, word)
    return compiling.pointer(signature, predict_plain)


class PlainPrediction:
    """Outputs for a few examples, with weights as plain matrices, wherever they are.

    Parameters
    ----------
    weights, biases : sequences of ndarray
        (n_in, n_out) and (n_out,) of each layer. What they hold is read at each call, unless an array had to be
        copied to be contiguous and of the dtype.
    activation, output : str
    dtype : numpy.dtype
    """

    def __init__(self, weights, biases, activation, output, dtype):
        self.dtype = np.dtype(dtype)
        self.sizes = [len(weights[0]), *map(len, biases)]
        given = [array for pair in zip(weights, biases, strict=True) for array in pair]
        self._arrays = [np.ascontiguousarray(array, self.dtype) for array in given]
        self.copied = any(array is not other for array, other in zip(self._arrays, given, strict=True))
        self._plan = layout(self.sizes, activation, output, self.dtype, TILE_ROWS)
        self._room = max(padded(n, 16 * panel_of(self.dtype)) for n in self.sizes)
        self._kernel = compiled_plain(self.dtype)
        self._run = callable_at(self._kernel.address, 4)
        self._parameters = np.array([address_of(array) for array in self._arrays], np.int64)
        layers = self._plan.layers
        task = (address_of(layers), len(layers), address_of(self._parameters), 0, 0, 0, self._room)
        self._task = np.array(task, np.int64)

    def __call__(self, X):
        """h(X), (m, n_out), for X (m, n_in) of the dtype, row by row; the caller has checked the shape."""
        out, rooms = np.empty((len(X), self.sizes[-1]), self.dtype), np.empty(2 * self._room, self.dtype)
        task = self._task.copy()
        task[INPUTS], task[ROWS], task[OUTPUTS] = address_of(X), len(X), address_of(out)
        self._run(address_of(task), address_of(rooms), 0, 1)
        return out

    def compiled(self):
        """A function (X) -> h(X) to be called from code that Numba compiles."""
        n_in, n_out, room, real = self.sizes[0], self.sizes[-1], 2 * self._room, self.dtype.type
        # called as a ctypes function, so that Numba knows that no later process will find these addresses
        run, words = self._run, self._task

        @numba.njit(nogil=True)
        def forward(X):
            if X.ndim != 2 or X.shape[1] != n_in:
                raise ValueError("X has another number of features than the network")
            inputs = np.ascontiguousarray(X).astype(real)
            out, rooms, task = np.empty((X.shape[0], n_out), real), np.empty(room, real), words.copy()
            task[INPUTS], task[ROWS], task[OUTPUTS] = inputs.ctypes.data, X.shape[0], out.ctypes.data
            run(task.ctypes.data, rooms.ctypes.data, 0, 1)
            return out

        forward.kept = self
        return forward


@functools.cache
def compiled_prediction(real):
    """The prediction of many examples and of one, compiled for networks of dtype real."""
    word = types.intp
    signature = types.void(word, types.CPointer(from_dtype(real)), word, word)
    return tuple(compiling.pointer(signature, function) for function in (predict_chunks, predict_one))
