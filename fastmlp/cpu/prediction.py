"""h_{W,b}(x) for many examples, for one, or for a few with plain matrices (eq. 7), keeping nothing but the output."""


import numba
import numpy as np
from numba import from_dtype, types

from fastmlp.codes import IDENTITY, SOFTMAX
from fastmlp.cpu import compiling
from fastmlp.cpu.activation import activate, softmax
from fastmlp.cpu.compiling import callable_at, kernel, once
from fastmlp.cpu.epoch import nothing_if_finite
from fastmlp.cpu.forward import block_numbers, forward
from fastmlp.cpu.layout import LAYER, STEP, layout, padded
from fastmlp.cpu.operands import Factor, Operands, round_matrix, round_row
from fastmlp.cpu.vector import (
    PAIR,
    TILE_ROWS,
    begin_sums,
    call_gather,
    configure_matrices,
    end_sums,
    lanes,
    lanes_of,
    narrow_row,
    narrow_tile,
    numbers_at,
    numbers_like,
    outer_product,
    panel_of,
    panel_width,
    plus_row,
    plus_tile,
    record_at,
    release_matrices,
    row_bytes,
    rows_of,
    step_words,
    store_tile,
    tile_rows,
    wide_row,
    wide_tile,
    word_numbers,
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
            activate(layer, layer.activation, A, a + p * stride, (min(P, layer.n_out - p * P) + V - 1) // V, rows)


@kernel
def predict_share(steps, rooms, F, share, shares):
    """Gather, forward (eq. 7) and write out[r, :], or the place of its largest number, for a share of the chunks of
    step.batch_size examples.

    Each share has a room of its own for a chunk, and its own rows of `out`. F is of the operands' kind.
    """
    step = record_at(steps, 0, STEP)
    place = share * step.room // panel_width(rooms) * row_bytes(rooms)
    room, rows_at = step.activations + place, step.a_rows + place // word_numbers(F)
    A, none, a_rows = numbers_like(room, rooms), numbers_like(0, F), numbers_like(rows_at, F)
    parameters, out = numbers_like(step.parameters, A), numbers_like(step.out, A)
    places, not_finite = numbers_at(step.out, INT64), numbers_at(step.not_finite, INT64)
    no_slopes = numbers_like(0, A)
    P = panel_width(A)
    height = tile_rows(wide_tile(A))
    bottom, top = record_at(step.layers, 0, LAYER), record_at(step.layers, step.n_layers - 1, LAYER)
    chunks = (step.m + step.batch_size - 1) // step.batch_size
    for chunk in range(chunks * share // shares, chunks * (share + 1) // shares):
        begin = chunk * step.batch_size
        count = min(step.batch_size, step.m - begin)
        rows = (count + height - 1) // height * height
        a, no_deltas = Factor(a_rows, none, True, count), Factor(none, none, False, 0)
        operands = Operands(numbers_like(step.weights, F), none, a, no_deltas, True)
        call_gather(step.x_gather, step.x_source, 0, begin, count, room, bottom.stride)
        for r in range(count):
            if not nothing_if_finite(A, bottom.a_in + r * P, bottom.in_panels, bottom.n_in, bottom.stride) == 0.0:
                not_finite[share] = 1
        round_matrix(A, a, bottom.a_in, bottom.n_in, bottom.stride, 0, rows)
        for l in range(step.n_layers):
            layer = record_at(step.layers, l, LAYER)
            activation = layer.activation if l < step.n_layers - 1 else IDENTITY  # `hidden` ends at a hidden layer
            forward(layer, activation, parameters, operands, A, no_slopes, 0, rows)
        finish(top, A, top.a_out, top.stride, rows)
        for r in range(count):
            if step.largest:
                places[begin + r] = largest(top, A, top.a_out + r * P)
                continue
            for j in range(top.n_out):
                out[(begin + r) * top.n_out + j] = A[top.a_out + j // P * top.stride + r * P + j % P]


@kernel
def largest(layer, A, a):
    """The first j with the largest a_j of the example at A[a]."""
    P, place, highest = panel_width(A), 0, A[a]
    for p in range(layer.out_panels):
        for j in range(min(P, layer.n_out - p * P)):
            x = A[a + p * layer.stride + j]
            if x > highest:
                place, highest = p * P + j, x
    return place


@kernel
def forward_row(zero, layer, p, parameters, weights, A, rows, a, z):
    """z_j = sum_i W_ji a_i + b_j (eq. 7) for one example and the destinations j of panel p.

    a and z are places in A of whole rows, panel after panel; rows and weights are the operands. The sums are
    forward_panel's, to the bit.
    """
    P, K = panel_width(A), word_numbers(weights)
    W = (layer.weights + p * layer.rows * P) // K
    block = block_numbers(weights, P)
    for first in range(0, layer.n_in, block):
        acc = begin_sums(zero, weights)
        for i in range(first // K, (min(first + block, layer.n_in) + K - 1) // K, step_words(zero, weights)):
            acc = outer_product(acc, rows, a // K + i, 0, weights, W + i * P)
        keep_sums(rows_of(end_sums(acc), 0), layer, p, parameters, A, z, first)


@kernel
def forward_four(zero, layer, p, parameters, weights, A, rows, a, z):
    """`forward_row` for panels p to p + 3: a sum waits for its last step, and the steps of the others fill the wait.

    Not with matrix registers, too few of which there are.
    """
    P, K = panel_width(A), word_numbers(weights)
    panel = layer.rows * P // K
    W = p * panel + layer.weights // K
    block = block_numbers(weights, P)
    for first in range(0, layer.n_in, block):
        one, two, three, four = zero, zero, zero, zero
        for i in range(first // K, (min(first + block, layer.n_in) + K - 1) // K):
            one = outer_product(one, rows, a // K + i, 0, weights, W + i * P)
            two = outer_product(two, rows, a // K + i, 0, weights, W + panel + i * P)
            three = outer_product(three, rows, a // K + i, 0, weights, W + 2 * panel + i * P)
            four = outer_product(four, rows, a // K + i, 0, weights, W + 3 * panel + i * P)
        keep_sums(one, layer, p, parameters, A, z, first)
        keep_sums(two, layer, p + 1, parameters, A, z, first)
        keep_sums(three, layer, p + 2, parameters, A, z, first)
        keep_sums(four, layer, p + 3, parameters, A, z, first)


@kernel
def keep_sums(acc, layer, p, parameters, A, z, first):
    """The sums over a block of sources to z of panel p: with b for the first block, with the sums so far for others."""
    P = panel_width(A)
    if first == 0:
        acc = plus_row(acc, parameters, layer.biases + p * P)
    else:
        acc = plus_tile(acc, A, z + p * P)
    store_tile(acc, A, z + p * P)


@kernel
def predict_row(steps, A, F):
    """The output for one example.

    A holds three rooms of step.room numbers, each for one row in panels: x is in the first, and the layers' outputs
    go to the second, the third, the second, ... F is of the operands' kind, whose rooms are the same.
    """
    step = record_at(steps, 0, STEP)
    parameters, not_finite = numbers_like(step.parameters, A), numbers_at(step.not_finite, INT64)
    weights, rows = numbers_like(step.weights, F), numbers_like(step.a_rows, F)
    P, V = panel_width(A), lanes(A)
    bottom = record_at(step.layers, 0, LAYER)
    if not nothing_if_finite(A, 0, bottom.in_panels, bottom.n_in, P) == 0.0:
        not_finite[0] = 1
    for l in range(step.n_layers):
        layer = record_at(step.layers, l, LAYER)
        a, z = (0 if l == 0 else 1 + (l - 1) % 2) * step.room, (1 + l % 2) * step.room
        round_row(A, rows, a, layer.n_in)
        p = 0
        while p < layer.out_panels:
            if step_words(wide_row(A), F) == 1 and layer.n_out - (p + 3) * P > V:
                forward_four(wide_row(A), layer, p, parameters, weights, A, rows, a, z)
                p += 4
                continue
            if layer.n_out - p * P > V:
                forward_row(wide_row(A), layer, p, parameters, weights, A, rows, a, z)
            else:
                forward_row(narrow_row(A), layer, p, parameters, weights, A, rows, a, z)
            p += 1
        finish(layer, A, z, P, 1)


def predict_one(steps, A, share, shares):
    """`predict_row` with the network's own numbers as operands."""
    predict_row(steps, A, A)


def predict_rounded_one(steps, A, share, shares):
    """`predict_row` with pairs of bfloat16 numbers as operands."""
    configure_matrices()
    predict_row(steps, A, numbers_at(0, PAIR))
    release_matrices()


# What predict_plain reads: addresses, and how many rows there are.
PLAIN_FIELDS = (
    "layers",
    "n_layers",
    "parameters",  # address of the addresses of W^(1), b^(1), W^(2), b^(2), ...
    "x",  # (rows, n_in), row by row
    "rows",
    "out",  # (rows, n_out), row by row
    "room",  # numbers for the outputs of a layer, of as many rows as a tile has
)
PLAIN = np.dtype([(name, np.int64) for name in PLAIN_FIELDS])
INPUTS, ROWS, OUTPUTS = map(PLAIN_FIELDS.index, ("x", "rows", "out"))


def address_of(array):
    """Where an array's first number is."""
    return array.__array_interface__["data"][0]


def predict_plain(table, A, share, shares):
    """The outputs for a few rows of x, with each W as a plain matrix (n_in, n_out), row by row.

    Weights are not laid out first, so that anyone may have changed them, but for the columns that do not fill a
    vector. A holds two rooms for the outputs of the layers, in turn, and those columns.
    """
    task = record_at(table, 0, PLAIN)
    V, height = lanes(A), tile_rows(wide_tile(A))
    rest = 2 * task.room
    for l in range(task.n_layers):
        layer = record_at(task.layers, l, LAYER)
        W, b = plain_parameters(task, A, l)
        begin = layer.n_out - layer.n_out % V
        copy_rest(A, rest, b, 1, begin, layer.n_out)
        copy_rest(A, rest + V, W, layer.n_in, begin, layer.n_out)
        rest += (layer.n_in + 1) * V
    whole = task.rows - task.rows % height
    for r in range(0, whole, height):
        predict_plain_rows(wide_tile(A), narrow_tile(A), task, A, r)
    for r in range(whole, task.rows):
        predict_plain_rows(wide_row(A), narrow_row(A), task, A, r)


@kernel
def plain_parameters(task, A, l):
    """W (n_in, n_out) and b of the l-th layer."""
    parameters = numbers_at(task.parameters, INT64)
    return numbers_like(parameters[2 * l], A), numbers_like(parameters[2 * l + 1], A)


@kernel
def copy_rest(A, place, W, rows, begin, end):
    """The columns begin <= j < end of W (rows, end), fewer than a vector has, as rows of a vector at A[place]."""
    V = lanes(A)
    for i in range(rows):
        for v in range(V):
            A[place + i * V + v] = W[i * end + begin + v] if begin + v < end else 0.0


@kernel
def predict_plain_rows(wide, narrow, task, A, r):
    """Eq. 7, layer by layer, for as many rows of x from r on as the tiles have.

    Outputs lie in panels, their rows a panel's width apart, the panels behind one another.
    """
    P, V, height = panel_width(A), lanes(A), tile_rows(wide)
    out, z, rest = numbers_like(task.out, A), 0, 2 * task.room
    for l in range(task.n_layers):
        layer = record_at(task.layers, l, LAYER)
        W, b = plain_parameters(task, A, l)
        n_out, a, z = layer.n_out, z, l % 2 * task.room
        X, x = numbers_like(task.x, A), r * layer.n_in if l == 0 else -1
        for j in range(0, n_out - n_out % P, P):
            acc = plain_sums(wide, layer, X, x, A, a, W, j, n_out)
            store_tile(plus_row(acc, b, j), A, z + j * height)
        for j in range(n_out - n_out % P, n_out - n_out % V, V):
            acc = plain_sums(narrow, layer, X, x, A, a, W, j, n_out)
            store_tile(plus_row(acc, b, j), A, z + (j - j % P) * height + j % P)
        if n_out % V > 0:
            j = n_out - n_out % V
            acc = plain_sums(narrow, layer, X, x, A, a, A, rest + V, V)
            store_tile(plus_row(acc, A, rest), A, z + (j - j % P) * height + j % P)
        finish(layer, A, z, height * P, height)
        rest += (layer.n_in + 1) * V
    last = record_at(task.layers, task.n_layers - 1, LAYER)
    for k in range(height):
        for j in range(last.n_out):
            out[(r + k) * last.n_out + j] = A[z + (j - j % P) * height + k * P + j % P]


@kernel
def plain_sums(zero, layer, X, x, A, a, W, w, stride):
    """sum_i W_ij a_i for the columns at W[w], their rows `stride` apart: a is X[x], row by row, or A[a], in panels."""
    P, height = panel_width(A), tile_rows(zero)
    acc = zero
    if x >= 0:
        for i in range(layer.n_in):
            acc = outer_product(acc, X, x + i, layer.n_in, W, i * stride + w)
        return acc
    for q in range(layer.in_panels):
        panel = a + q * height * P - q * P
        for i in range(q * P, min(q * P + P, layer.n_in)):
            acc = outer_product(acc, A, panel + i, P, W, i * stride + w)
    return acc


@once
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
        self.sizes = len(weights[0]), *map(len, biases)
        given = [array for pair in zip(weights, biases, strict=True) for array in pair]
        self._arrays = [np.ascontiguousarray(array, self.dtype) for array in given]
        self.copied = any(array is not other for array, other in zip(self._arrays, given, strict=True))
        self._plan = layout(self.sizes, activation, output, self.dtype, TILE_ROWS)
        self._room = max(padded(n, panel_of(self.dtype)) for n in self.sizes) * TILE_ROWS
        self._rooms = 2 * self._room + lanes_of(self.dtype) * sum(n + 1 for n in self.sizes[:-1])
        self._kernel = compiled_plain(self.dtype)
        self._run = callable_at(self._kernel.address, 4)
        self._parameters = np.array([address_of(array) for array in self._arrays], np.int64)
        layers = self._plan.layers
        task = (address_of(layers), len(layers), address_of(self._parameters), 0, 0, 0, self._room)
        self._task = np.array(task, np.int64)

    def __call__(self, X):
        """h(X), (m, n_out), for X (m, n_in) of the dtype, row by row; the caller has checked the shape."""
        out, rooms = np.empty((len(X), self.sizes[-1]), self.dtype), np.empty(self._rooms, self.dtype)
        task = self._task.copy()
        task[INPUTS], task[ROWS], task[OUTPUTS] = address_of(X), len(X), address_of(out)
        self._run(address_of(task), address_of(rooms), 0, 1)
        return out

    def compiled(self):
        """A function (X) -> h(X) to be called from code that Numba compiles."""
        n_in, n_out, room, real = self.sizes[0], self.sizes[-1], self._rooms, self.dtype.type
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


def predict_chunks(steps, rooms, share, shares):
    """`predict_share` with the network's own numbers as operands."""
    predict_share(steps, rooms, rooms, share, shares)


def predict_rounded_chunks(steps, rooms, share, shares):
    """`predict_share` with pairs of bfloat16 numbers as operands."""
    configure_matrices()
    predict_share(steps, rooms, numbers_at(0, PAIR), share, shares)
    release_matrices()


@once
def compiled_prediction(real, precision):
    """The prediction of many examples, compiled for networks of dtype real and a precision."""
    word = types.intp
    signature = types.void(word, types.CPointer(from_dtype(real)), word, word)
    return compiling.pointer(signature, predict_rounded_chunks if precision == "bf16" else predict_chunks)


@once
def compiled_one(real, precision):
    """The prediction of one example, compiled for networks of dtype real and a precision."""
    word = types.intp
    signature = types.void(word, types.CPointer(from_dtype(real)), word, word)
    return compiling.pointer(signature, predict_rounded_one if precision == "bf16" else predict_one)
