"""z and a of a tile of a layer (eq. 7)."""

import functools

from numba import cuda

from fastmlp.codes import IDENTITY
from fastmlp.cuda.activation import make_activation
from fastmlp.cuda.compiling import device
from fastmlp.cuda.layout import Shape
from fastmlp.cuda.tile import product
from fastmlp.cuda.work import EXAMPLES, PARITY


@functools.cache
def make_forward(real: type, shape: Shape, resident: bool):
    """The forward operation with tiles of a shape."""
    multiply, collect, entry, parts, entries = product(real, shape, True, False, resident)
    rows, columns, n_sums = shape.rows, shape.columns, shape.rows_each * shape.columns_each
    activate, _, kept = make_activation(real)
    zero = real(0)

    @device
    def forward(work, number, chunk, row, column):
        """z_j = sum_i W_ji a_i + b_j, a_j = f(z_j) (eq. 7) for a tile of examples r and destinations j.

        Reads a (examples, n_in) of the layer below, W (n_in, n_out), b; writes a (examples, n_out), z in its place for
        the output layer. The tile's entries are this block's; a thread writes whole entries.
        """
        step, layer, room, model = work.step, work.layers[number], work.room, work.model
        sums = cuda.local.array(n_sums, real)
        r0, j0 = row * rows, column * columns
        below = layer.a_in + (chunk[PARITY] * step.bottom_size if layer.bottom else 0)
        a = (room, below + r0 * layer.in_stride, layer.in_stride, chunk[EXAMPLES] - r0)
        W = (model, layer.weights + j0, layer.out_stride, layer.n_out - j0)
        multiply(work.ring, sums, a, W, layer.n_in)
        n_out, stride, place, biases = layer.n_out, layer.out_stride, layer.a_out, layer.biases
        activation = layer.activation if layer.hidden else IDENTITY
        drops, scale = layer.hidden and step.threshold > 0, real(1.0 / step.keep)
        for part in range(parts):
            collect(work.ring, sums, part)
            for n in range(entries):
                r, j, total = entry(work.ring, part, n)
                r += r0
                j += j0
                if r < chunk[EXAMPLES] and j < n_out:
                    a_j = activate(activation, total + model[biases + j])
                    if drops:
                        a_j = a_j * scale if kept(step, chunk, number, n_out, r, j) else zero
                    room[place + r * stride + j] = a_j

    return forward
