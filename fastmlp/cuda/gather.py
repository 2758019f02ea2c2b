"""Rows of X and of the targets, whatever they are kept in, into a chunk's room; nothing is copied whole."""

import functools

from numba import cuda, int64

from fastmlp.cuda.compiling import device
from fastmlp.cuda.layout import BYTES, LABELS, SPARSE
from fastmlp.cuda.operands import make_put
from fastmlp.cuda.ptx import quotient, thread
from fastmlp.cuda.work import EXAMPLES, MINIBATCH, OFFSET, PARITY


@device
def example_at(work, n):
    """Which example comes n-th, counted over the arrays on the device."""
    return work.integers[n] if work.step.ordered else n - work.step.x_begin


@functools.cache
def make_gather(real, per_word=1, together=1):
    """The gather for networks of dtype `real`; in bfloat16, two a word, X becomes such.

    together: rows that a thread has on their way at once.
    """
    zero, one, put = real(0), real(1), make_put(per_word)

    @device
    def gather(work, operation, chunk, row):
        """Inputs, targets and weights of the examples row ... row + operation.task_rows - 1 of the chunk.

        Reads the data and the order; writes a^(1) (examples, n_in), T (examples, n_out) and the weights in the rows of
        the task, which no other block has. operation.lanes threads share a row.
        """
        step, room = work.step, work.room
        bottom, top = work.layers[0], work.layers[step.n_layers - 1]
        begin = chunk[MINIBATCH] * step.batch_size + chunk[OFFSET]
        end = min(row + operation.task_rows, chunk[EXAMPLES])
        line = quotient(thread(), operation.lanes)
        lane, lines = thread() - line * operation.lanes, quotient(cuda.blockDim.x, operation.lanes)
        finite = True
        examples, values = cuda.local.array(together, int64), cuda.local.array(together, real)
        for r in range(row + line, end, lines * together):
            for n in range(together):
                examples[n] = example_at(work, begin + min(r + n * lines, end - 1))
            place = bottom.a_in_read + chunk[PARITY] * step.bottom_size
            if step.x_kind == SPARSE:
                for n in range(together):
                    for i in range(lane, step.x_columns, operation.lanes):
                        if r + n * lines < end:
                            put(room, place + (r + n * lines) * bottom.in_words, i, zero)
            else:
                for i in range(lane, step.x_columns, operation.lanes):
                    for n in range(together):
                        at = examples[n] * step.x_columns + i
                        values[n] = real(work.bytes[at]) if step.x_kind == BYTES else work.data[at]
                    for n in range(together):
                        finite = finite and values[n] - values[n] == zero
                        if r + n * lines < end:
                            put(room, place + (r + n * lines) * bottom.in_words, i, values[n])
            if step.has_targets:
                place = step.targets + chunk[PARITY] * step.targets_size
                for j in range(lane, top.n_out, operation.lanes):
                    for n in range(together):
                        if step.t_kind == LABELS:
                            values[n] = one if work.integers[step.labels + examples[n]] == j else zero
                        else:
                            values[n] = work.data[step.targets_data + examples[n] * top.n_out + j]
                    for n in range(together):
                        finite = finite and values[n] - values[n] == zero
                        if r + n * lines < end:
                            room[place + (r + n * lines) * top.out_stride + j] = values[n]
                if lane == 0:
                    for n in range(together):
                        if r + n * lines < end:
                            weight = real(work.weights[examples[n]]) if step.weighted else one
                            room[step.row_weights + chunk[PARITY] * step.rows + r + n * lines] = weight
        if step.x_kind == SPARSE:
            cuda.syncthreads()  # zeros first
            for r in range(row + line, end, lines):
                example = example_at(work, begin + r)
                place = bottom.a_in_read + chunk[PARITY] * step.bottom_size + r * bottom.in_words
                first, last = work.integers[step.indptr + example], work.integers[step.indptr + example + 1]
                for k in range(first + lane, last, operation.lanes):
                    value = work.data[k]
                    finite = finite and value - value == zero
                    put(room, place, work.integers[step.columns + k], value)
        if not finite:
            work.sums[step.bad_input] = 1.0  # whoever writes it, writes the same

    return gather
