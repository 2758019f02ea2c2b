"""Rows of X and of the targets, whatever they are kept in, into a chunk's room; nothing is copied whole."""

import functools

from numba import cuda

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
def make_gather(real, per_word=1):
    """The gather for networks of dtype `real`; in bfloat16, two a word, X becomes such."""
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
        for r in range(row + line, end, lines):
            example = example_at(work, begin + r)
            place = bottom.a_in_read + chunk[PARITY] * step.bottom_size + r * bottom.in_words
            if step.x_kind == SPARSE:
                for i in range(lane, step.x_columns, operation.lanes):
                    put(room, place, i, zero)
            else:
                at = example * step.x_columns
                for i in range(lane, step.x_columns, operation.lanes):
                    value = real(work.bytes[at + i]) if step.x_kind == BYTES else work.data[at + i]
                    finite = finite and value - value == zero
                    put(room, place, i, value)
            if step.has_targets:
                place = step.targets + chunk[PARITY] * step.targets_size + r * top.out_stride
                for j in range(lane, top.n_out, operation.lanes):
                    if step.t_kind == LABELS:
                        value = one if work.integers[step.labels + example] == j else zero
                    else:
                        value = work.data[step.targets_data + example * top.n_out + j]
                        finite = finite and value - value == zero
                    room[place + j] = value
                if lane == 0:
                    weight = real(work.weights[example]) if step.weighted else one
                    room[step.row_weights + chunk[PARITY] * step.rows + r] = weight
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
