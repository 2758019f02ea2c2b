"""Rows of X and of the targets, whatever they are kept in, into a chunk's room; nothing is copied whole."""

import functools

import numpy as np
from numba import cuda, int64

from fastmlp.cuda.compiling import device
from fastmlp.cuda.layout import BYTES, LABELS, SPARSE
from fastmlp.cuda.operands import make_put, make_put_vector
from fastmlp.cuda.ptx import VECTOR_BYTES, fused_multiply_add, load_vector, quotient, thread
from fastmlp.cuda.work import EXAMPLES, MINIBATCH, OFFSET, PARITY


@device
def example_at(work, n):
    """Which example comes n-th, counted over the arrays on the device."""
    return work.integers[n] if work.step.ordered else n - work.step.x_begin


@functools.cache
def make_gather(real, per_word=1, together=1):
    """The gather for networks of dtype `real`; in bfloat16, two a word, X becomes such.

    together: rows of which a thread has a vector on its way at once.
    """
    zero, one, put = real(0), real(1), make_put(per_word)
    width = VECTOR_BYTES // np.dtype(real).itemsize
    n_values = together * width
    put_inputs, put_targets = make_put_vector(per_word, width), make_put_vector(1, width)

    @device
    def fetch(values, v, array, at, i, count):
        """values[v : v + width] = array[at + i : at + i + width], zeros from array[at + count] on; no load waits."""
        for k in range(width):
            value = real(array[at + min(i + k, count - 1)])
            values[v + k] = value if i + k < count else zero

    @device
    def gather(work, operation, chunk, row):
        """Inputs, targets and weights of the examples row ... row + operation.task_rows - 1 of the chunk.

        Reads the data and the order; writes a^(1) (examples, n_in), T (examples, n_out), with zeros to the next vector
        (what rows have behind it stays as it was made, zeros, too), and the weights in the rows of the task, which no
        other block has. operation.lanes threads share a row.
        """
        step, room = work.step, work.room
        bottom, top = work.layers[0], work.layers[step.n_layers - 1]
        begin = chunk[MINIBATCH] * step.batch_size + chunk[OFFSET]
        end = min(row + operation.task_rows, chunk[EXAMPLES])
        line = quotient(thread(), operation.lanes)
        lane, lines = thread() - line * operation.lanes, quotient(cuda.blockDim.x, operation.lanes)
        first, jump = lane * width, operation.lanes * width
        n_in, n_out, words, stride = step.x_columns, top.n_out, bottom.in_words, top.out_stride
        vectors = n_in % width == 0  # rows of X begin where vectors do
        target_vectors = n_out % width == 0 and step.targets_data % width == 0
        inputs = bottom.a_in_read + chunk[PARITY] * step.bottom_size
        targets = step.targets + chunk[PARITY] * step.targets_size
        examples, values = cuda.local.array(together, int64), cuda.local.array(n_values, real)
        check = zero  # is NaN as soon as one number is not finite
        for r in range(row + line, end, lines * together):
            for n in range(together):
                examples[n] = example_at(work, begin + min(r + n * lines, end - 1))
            for i in range(first, n_in, jump):
                for n in range(together):
                    if step.x_kind == SPARSE:
                        for k in range(width):
                            values[n * width + k] = zero
                    elif step.x_kind == BYTES:
                        fetch(values, n * width, work.bytes, examples[n] * n_in, i, n_in)
                    elif vectors:
                        load_vector(values, n * width, work.data, examples[n] * n_in + i)
                    else:
                        fetch(values, n * width, work.data, examples[n] * n_in, i, n_in)
                for n in range(n_values):
                    check = fused_multiply_add(values[n], zero, check)
                for n in range(together):
                    if r + n * lines < end:
                        put_inputs(room, inputs + (r + n * lines) * words, i, values, n * width)
            if step.has_targets:
                for j in range(first, n_out, jump):
                    for n in range(together):
                        if step.t_kind == LABELS:
                            label = work.integers[step.labels + examples[n]]
                            for k in range(width):
                                values[n * width + k] = one if label == j + k else zero
                        else:
                            at = step.targets_data + examples[n] * n_out
                            if target_vectors:
                                load_vector(values, n * width, work.data, at + j)
                            else:
                                fetch(values, n * width, work.data, at, j, n_out)
                    for n in range(n_values):
                        check = fused_multiply_add(values[n], zero, check)
                    for n in range(together):
                        if r + n * lines < end:
                            put_targets(room, targets + (r + n * lines) * stride, j, values, n * width)
                if lane == 0:
                    for n in range(together):
                        if r + n * lines < end:
                            weight = real(work.weights[examples[n]]) if step.weighted else one
                            room[step.row_weights + chunk[PARITY] * step.rows + r + n * lines] = weight
        if step.x_kind == SPARSE:
            cuda.syncthreads()  # zeros first
            for r in range(row + line, end, lines):
                example = example_at(work, begin + r)
                first, last = work.integers[step.indptr + example], work.integers[step.indptr + example + 1]
                for k in range(first + lane, last, operation.lanes):
                    value = work.data[k]
                    check = fused_multiply_add(value, zero, check)
                    put(room, inputs + r * words, work.integers[step.columns + k], value)
        if check != zero:
            work.sums[step.bad_input] = 1.0  # whoever writes it, writes the same

    return gather
