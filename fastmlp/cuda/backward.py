"""delta of the output layer and of a tile of a hidden layer (eq. 8-9)."""

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from fastmlp.codes import ABSOLUTE_ERROR, HUBER, LOG_LOSS, POISSON, SOFTMAX
from fastmlp.cuda.activation import make_activation
from fastmlp.cuda.compiling import device, mathematics, of_users
from fastmlp.cuda.gather import example_at
from fastmlp.cuda.layout import TileShape
from fastmlp.cuda.operands import make_keep
from fastmlp.cuda.ptx import exchange, thread
from fastmlp.cuda.reduction import block_sum
from fastmlp.cuda.tensor_tile import product
from fastmlp.cuda.work import EXAMPLES, IN_MINIBATCH, MINIBATCH, NUMBER, OFFSET, PARITY


@functools.cache
def make_error(real: type, supplied: Any = None, supplied_loss: Any = None):
    """The function of one output, but for softmax's: (its loss, (a - y) f'(z) or what the loss has for that)."""
    activate, slope, _, _, _ = make_activation(real, supplied)
    m = mathematics(real)
    squared_error, binary_log_loss, poisson_loss, huber_loss = (
        m.squared_error, m.binary_log_loss, m.poisson_loss, m.huber_loss
    )  # fmt: skip
    absolute_error, huber_error, absolute_error_sign = m.absolute_error, m.huber_error, m.absolute_error_sign
    output_error, clipped, logistic, exponential = m.output_error, m.clipped, m.logistic, m.exponential
    other_loss, other_error = squared_error, output_error
    if supplied_loss is not None:
        other_loss, other_error = of_users(real, supplied_loss.plain_f, 2), of_users(real, supplied_loss.plain_df, 2)

    @device
    def loss_and_error(kind, activation, lowest, highest, z_j, y):
        """The loss (eq. 4) and delta (eq. 8) of an output; with log loss, and Poisson's with e^z, f' cancels."""
        a_j = z_j
        if kind != LOG_LOSS and kind != POISSON:
            a_j = activate(activation, z_j)
        if kind == LOG_LOSS:
            loss = clipped(binary_log_loss(z_j, y), lowest, highest)
            error = output_error(logistic(z_j), y)
        elif kind == POISSON:
            loss = poisson_loss(z_j, y)
            error = output_error(exponential(z_j), y)
        elif kind == HUBER:
            loss = huber_loss(a_j, y)
            error = huber_error(a_j, y) * slope(activation, z_j, a_j)
        elif kind == ABSOLUTE_ERROR:
            loss = absolute_error(a_j, y)
            error = absolute_error_sign(a_j, y) * slope(activation, z_j, a_j)
        else:
            loss = other_loss(a_j, y)
            error = other_error(a_j, y) * slope(activation, z_j, a_j)
        return loss, error

    return loss_and_error


class RowOfFour(NamedTuple):
    """What is done with the outputs of an example that four threads of a warp have, next to one another."""

    sum_of_row: Any
    largest_of_row: Any
    larger: Any
    power_of: Any
    softmax_of: Any
    delta_of: Any
    loss_of: Any


@functools.cache
def make_row_of_four(supplied: Any = None, supplied_loss: Any = None) -> RowOfFour:
    """The losses and delta of examples whose z is as a product of tensor cores leaves it (see warp.py)."""
    real: Any = np.float32
    loss_and_error = make_error(real, supplied, supplied_loss)
    m = mathematics(real)
    output_error, clipped, exp_negative = m.output_error, m.clipped, m.exp_negative
    zero = real(0)

    @device
    def sum_of_row(x):
        """The sum of what the four threads of a row have; each gets the same."""
        x = x + exchange(x, 1)
        return x + exchange(x, 2)

    @device
    def larger(x, other):
        return other if other > x else x

    @device
    def largest_of_row(x):
        x = larger(x, exchange(x, 1))
        return larger(x, exchange(x, 2))

    @device
    def power_of(there, y, z_j, top):
        """e^(z - top) and what it adds to the sum of y (z - top), zeros if the output is not there."""
        power, agreement = exp_negative(z_j - top), y * (z_j - top)
        return power if there else zero, agreement if there else zero

    @device
    def softmax_of(activation, z_j, top, powers):
        """a of an output, if it is softmax's."""
        return exp_negative(z_j - top) / powers if activation == SOFTMAX else zero

    @device
    def delta_of(work, activation, limits, counts, y, z_j, a_j, weight):
        """(loss, delta) of an output of an example, zeros unless it counts; log losses have limits.

        a_j is softmax's; its loss is the whole row's.
        """
        if activation == SOFTMAX:
            lost, error = zero, output_error(a_j, y)
        else:
            lost, error = loss_and_error(work.step.loss, activation, limits[0], limits[1], z_j, y)
        return lost if counts else zero, error * weight if counts else zero

    @device
    def loss_of(work, chunk, activation, limits, r, weight, powers, agreement, loss):
        """What an example adds to the losses: those of a thread's outputs; softmax's and the offset, by one thread."""
        step, first = work.step, thread() % 4 == 0
        if weight == zero:
            return 0.0
        if activation == SOFTMAX:
            loss = zero
            if first:
                loss = clipped(real(math.log(powers)) - agreement, limits[0], limits[1])
        result = float(loss) * float(weight)
        if step.has_offsets and first:
            example = example_at(work, chunk[MINIBATCH] * step.batch_size + chunk[OFFSET] + r)
            result += work.weights[step.offsets + example] * float(weight)
        return result

    return RowOfFour(sum_of_row, largest_of_row, larger, power_of, softmax_of, delta_of, loss_of)


@functools.cache
def make_output(real: type, shape: TileShape, supplied: Any = None, supplied_loss: Any = None):
    """(output_delta, output): what becomes of the output layer's z in training, and in prediction.

    `supplied` and `supplied_loss` are a user's f of the output layer, and loss.
    """
    rows, lanes = shape.rows, shape.threads // shape.rows
    keep_copy = make_keep(shape.per_word)
    activate, loss_and_error = make_activation(real, supplied)[0], make_error(real, supplied, supplied_loss)
    m = mathematics(real)
    output_error, clipped, exp_negative = m.output_error, m.clipped, m.exp_negative
    zero = real(0)

    @device
    def largest_z(ring, room, z, n_out, line, lane):
        """The largest z of a row, whose `lanes` threads each look at some; all threads of the block call it."""
        top = room[z]
        for j in range(lane, n_out, lanes):
            if room[z + j] > top:
                top = room[z + j]
        cuda.syncthreads()
        ring[line * lanes + lane] = top
        cuda.syncthreads()
        for k in range(lanes):
            if ring[line * lanes + k] > top:
                top = ring[line * lanes + k]
        return top

    @device
    def row_sum(ring, value, line, lane):
        """The sum of the values of a row's threads, in their order."""
        cuda.syncthreads()
        ring[line * lanes + lane] = value
        cuda.syncthreads()
        total = zero
        for k in range(lanes):
            total += ring[line * lanes + k]
        return total

    @device
    def output_delta(work, number, chunk, row, part):
        """delta_j = (a_j - y_j) f'(z_j) (eq. 8) and the losses (eq. 4) of a tile of examples.

        Reads z (examples, n_out) of the output layer, T and the examples' weights; writes delta (examples, n_out), in
        bfloat16 a second time, as such, and adds to the tile's slot of losses, if it is the first part of those who do
        this. `lanes` threads share a row.
        """
        step, layer, room = work.step, work.layers[number], work.room
        line, lane = thread() // lanes, thread() % lanes
        r = row * rows + line
        there = r < chunk[EXAMPLES]
        if not there:
            r = row * rows  # its row in a tile that is not full does as the first, and keeps nothing
        z, d = layer.a_out + r * layer.out_stride, layer.d_out + r * layer.out_stride
        copy, entry = layer.d_out_read, r * layer.out_stride
        copies = copy != layer.d_out  # where the error goes no further it is not multiplied
        t = step.targets + chunk[PARITY] * step.targets_size + r * layer.out_stride
        weight = room[step.row_weights + chunk[PARITY] * step.rows + r] if there else zero
        lowest, highest = real(step.lowest_loss), real(step.highest_loss)
        loss = zero
        if layer.activation == SOFTMAX:
            top = largest_z(work.ring, room, z, layer.n_out, line, lane)
            powers, agreement = zero, zero
            for j in range(lane, layer.n_out, lanes):
                distance = room[z + j] - top
                powers += exp_negative(distance)
                agreement += room[t + j] * distance
            total = row_sum(work.ring, powers, line, lane)
            agreement = row_sum(work.ring, agreement, line, lane)
            if lane == 0:
                loss = clipped(real(math.log(total)) - agreement, lowest, highest)
            if there:
                for j in range(lane, layer.n_out, lanes):
                    error = output_error(exp_negative(room[z + j] - top) / total, room[t + j])
                    room[d + j] = error * weight
                    keep_copy(room, copy, entry + j, error * weight, copies)
        else:
            for j in range(lane, layer.n_out, lanes):
                z_j, y = room[z + j], room[t + j]
                lost, error = loss_and_error(step.loss, layer.activation, lowest, highest, z_j, y)
                loss += lost
                if there:
                    room[d + j] = error * weight if weight != zero else zero
                    keep_copy(room, copy, entry + j, error * weight if weight != zero else zero, copies)
        mine = float(loss) * float(weight) if weight != zero else 0.0
        if step.has_offsets and there and lane == 0:
            begin = chunk[MINIBATCH] * step.batch_size + chunk[OFFSET]
            mine += work.weights[step.offsets + example_at(work, begin + r)] * float(weight)
        in_all = block_sum(work.partial, mine)
        if thread() == 0 and part == 0:
            work.sums[row] += in_all * work.sums[step.rates + 2 * chunk[MINIBATCH]] * chunk[IN_MINIBATCH]

    @device
    def output(work, number, chunk, row):
        """h (examples, n_out) of a tile of examples, or the place of each one's largest output, into step.out.

        Reads z of the output layer; `lanes` threads share a row.
        """
        step, layer, room = work.step, work.layers[number], work.room
        line, lane = thread() // lanes, thread() % lanes
        r = row * rows + line
        there = r < chunk[EXAMPLES]
        if not there:
            r = row * rows
        z = layer.a_out + r * layer.out_stride
        place = step.out + (chunk[NUMBER] - step.from_chunk) * step.chunk_rows + r
        if step.largest:
            if there and lane == 0:
                best = 0
                for j in range(1, layer.n_out):
                    if room[z + j] > room[z + best]:
                        best = j
                room[place] = real(best)
        elif layer.activation == SOFTMAX:
            top = largest_z(work.ring, room, z, layer.n_out, line, lane)
            powers = zero
            for j in range(lane, layer.n_out, lanes):
                powers += exp_negative(room[z + j] - top)
            total = row_sum(work.ring, powers, line, lane)
            if there:
                for j in range(lane, layer.n_out, lanes):
                    h = exp_negative(room[z + j] - top) / total
                    room[step.out + (place - step.out) * layer.n_out + j] = h
        elif there:
            for j in range(lane, layer.n_out, lanes):
                room[step.out + (place - step.out) * layer.n_out + j] = activate(layer.activation, room[z + j])

    return output_delta, output


@functools.cache
def make_backward(real: type, shape: TileShape, resident: bool, supplied: Any = None):
    """The backward operation with tiles of a shape; `supplied` is a user's f of the hidden layers."""
    tile = product(real, shape, True, True, resident)
    multiply, collect, entry, n_sums, parts, part_rows, width, line_step = tile
    rows, columns = shape.rows, shape.columns
    keep_copy = make_keep(shape.per_word)
    _, _, _, kept_slope, kept = make_activation(real, supplied)
    zero = real(0)

    @device
    def backward(work, number, chunk, row, column):
        """delta_i = (sum_j W_ji delta_j) f'(z_i) (eq. 9) for a tile of examples r and sources i.

        The layer is W's, the one below that whose delta is sought. Reads delta (examples, n_out), W (n_in, n_out) and
        a (examples, n_in); writes delta (examples, n_in). The tile's entries are this block's. In bfloat16 the factors
        are read, and delta is written a second time, as such; f' is of the float32 a.
        """
        step, layer, room = work.step, work.layers[number], work.room
        below = work.layers[number - 1]
        sums = cuda.local.array(n_sums, real)
        r0, i0 = row * rows, column * columns
        delta = (room, layer.d_out_read + r0 * layer.out_words, layer.out_words, chunk[EXAMPLES] - r0)
        W = (work.model, layer.weights_read + i0 * layer.out_words, layer.out_words, layer.n_in - i0)
        multiply(work.ring, sums, delta, W, layer.n_out)
        n_in, stride, activation = layer.n_in, layer.in_stride, below.activation
        a_below, d_below, copy = layer.a_in, layer.d_in, below.d_out_read
        keep, scale = real(step.keep), real(1.0 / step.keep)
        examples, drops, t = chunk[EXAMPLES], step.threshold > 0, thread()
        for part in range(parts):
            collect(work.ring, sums, part)
            for c in range(t % width, columns, width):
                i = i0 + c
                for line in range(t // width, part_rows, line_step):
                    r = r0 + part * part_rows + line
                    if r < examples and i < n_in:
                        place = r * stride + i
                        slope = kept_slope(activation, room[a_below + place] * keep, room, d_below + place)
                        d = entry(work.ring, line, c) * slope
                        if drops:
                            d = d * scale if kept(step, chunk, number - 1, n_in, r, i) else zero
                        room[d_below + place] = d
                        keep_copy(room, copy, place, d, True)

    return backward
