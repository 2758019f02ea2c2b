"""h_{W,b}(x) for many examples or for one (eq. 7), without keeping anything but the output."""

import functools

from numba import from_dtype, types

from fastmlp.cpu import compiling
from fastmlp.cpu.activation import activate, softmax
from fastmlp.cpu.compiling import kernel
from fastmlp.cpu.epoch import nothing_if_finite
from fastmlp.cpu.forward import SUM_PANELS, forward
from fastmlp.cpu.layout import IDENTITY, LAYER, SOFTMAX, STEP
from fastmlp.cpu.vector import (
    call_gather,
    lanes,
    narrow_row,
    numbers_at,
    numbers_like,
    outer_product,
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


@functools.cache
def compiled_prediction(real):
    """The prediction of many examples and of one, compiled for networks of dtype real."""
    word = types.intp
    signature = types.void(word, types.CPointer(from_dtype(real)), word, word)
    return tuple(compiling.pointer(signature, function) for function in (predict_chunks, predict_one))
