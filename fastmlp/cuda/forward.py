"""z and a of a tile of a layer (eq. 7)."""

import functools
from typing import Any

from numba import cuda

from fastmlp.codes import IDENTITY
from fastmlp.cuda.activation import make_activation
from fastmlp.cuda.compiling import device
from fastmlp.cuda.layout import TileShape
from fastmlp.cuda.operands import make_keep
from fastmlp.cuda.ptx import thread
from fastmlp.cuda.tensor_tile import product
from fastmlp.cuda.work import EXAMPLES, PARITY


@functools.cache
def make_forward(real: type, shape: TileShape, resident: bool, supplied: Any = None):
    """The forward operation with tiles of a shape; `supplied` is a user's f of the hidden layers."""
    tile = product(real, shape, True, False, resident)
    multiply, collect, entry, n_sums, parts, part_rows, width, line_step = tile
    rows, columns, column_words = shape.rows, shape.columns, shape.columns // shape.per_word
    keep = make_keep(shape.per_word)
    activate, _, keep_slope, _, kept = make_activation(real, supplied)
    zero = real(0)

    @device
    def forward(work, number, chunk, row, column):
        """z_j = sum_i W_ji a_i + b_j, a_j = f(z_j) (eq. 7) for a tile of examples r and destinations j.

        Reads a (examples, n_in) of the layer below, W (n_in, n_out), b; writes a (examples, n_out), z in its place for
        the output layer. The tile's entries are this block's; a thread writes whole entries. In bfloat16 a and W are
        read, and a is written a second time, as such.
        """
        step, layer, room, model = work.step, work.layers[number], work.room, work.model
        sums = cuda.local.array(n_sums, real)
        r0, j0 = row * rows, column * columns
        below = layer.a_in_read + (chunk[PARITY] * step.bottom_size if layer.bottom else 0)
        a = (room, below + r0 * layer.in_words, layer.in_words, chunk[EXAMPLES] - r0)
        W = (model, layer.weights_read + column * column_words, layer.out_words, layer.n_out - j0)
        multiply(work.ring, sums, a, W, layer.n_in)
        n_out, stride, place, biases = layer.n_out, layer.out_stride, layer.a_out, layer.biases
        activation = layer.activation if layer.hidden else IDENTITY
        examples = chunk[EXAMPLES]
        hidden, copy = layer.hidden, layer.a_out_read
        drops, scale = layer.hidden and step.threshold > 0, real(1.0 / step.keep)
        t = thread()
        for part in range(parts):
            collect(work.ring, sums, part)
            for c in range(t % width, columns, width):
                j = j0 + c
                bias = model[biases + j] if j < n_out else zero
                for line in range(t // width, part_rows, line_step):
                    r = r0 + part * part_rows + line
                    if r < examples and j < n_out:
                        z_j = entry(work.ring, line, c) + bias
                        keep_slope(layer, room, r * stride + j, z_j)
                        a_j = activate(activation, z_j)
                        if drops:
                            a_j = a_j * scale if kept(step, chunk, number, n_out, r, j) else zero
                        room[place + r * stride + j] = a_j
                        keep(room, copy, r * stride + j, a_j, hidden)

    return forward
