"""A part of a chunk's examples through all layers without a barrier (eq. 7-11), in bfloat16 on tensor cores.

For networks of at most 128 units a layer. A block takes `shape.rows` examples at a time forward, to the output's delta
and back, and adds its U and V to nobody else's: they are its part's, which `reduce` sums in a fixed order, and updates
by. A warp has 16 rows of every layer: a fragment of them is the factor of the layer's products, and what a thread has
of a product (see warp.py) it puts through f, packs, and writes to where the next layer, and U, find it. So of all that
is between X and U only T, the weights of the examples and W come from beyond the multiprocessor; a, delta and f' lie in
its shared memory, as bfloat16. f, f', the losses and all sums are of float32; V is the sum of the delta that U has, a
product with ones.

Which bounds there are, by count: with L layers of n units, each example takes 2 (3 L - 1) n^2 multiplications and
additions, about 2 L n values of f and f', 6 n bytes of X (read, and once written and read in bfloat16), and each part
8 (n + 1) n L bytes of U and V (written and read). For n = 64, L = 4 and 16,384 examples that is 1.5 GFLOP, 1.5 us of an
H100's tensor cores at their peak; 8 million values of f and f', at 30 instructions each 8 us of its float32 lanes for
the logistic function and a third of it for ReLU; 128 parts of 66 KB, 17 MB of traffic with the second-level cache, 3 us
at 5.5 TB/s. Beside them stand two barriers, and the way of W for each of 2 L - 1 products, which copies under way hide
behind the product before. No GPU has run it yet.
"""

import functools
from typing import Any

import numpy as np
from numba import cuda

from fastmlp.codes import SOFTMAX
from fastmlp.cuda.accumulate import make_update, note
from fastmlp.cuda.activation import make_activate_all, make_activation
from fastmlp.cuda.backward import make_row_of_four
from fastmlp.cuda.compiling import device
from fastmlp.cuda.fragments import LOWEST, ONES, VECTOR_WORDS, WORD_BYTES, ZERO, add, four, put_four, real
from fastmlp.cuda.layout import REDUCED, PassShape
from fastmlp.cuda.ptx import (
    commit_copies,
    copy_async,
    load_matrices,
    load_matrices_transposed,
    load_vector,
    number_of,
    pack_bf16,
    quotient,
    shared_address,
    thread,
    wait_copies,
    word_of,
)
from fastmlp.cuda.reduction import block_sum
from fastmlp.cuda.warp import LANES
from fastmlp.cuda.work import EXAMPLES, IN_MINIBATCH, MINIBATCH, OFFSET, PARITY

COLUMNS = 32  # of a product that a warp has at once: 16 sums a thread
SUMS = COLUMNS // 2
HALF, HIGH_HALF = np.uint32(16), np.uint32(0xFFFF0000)
TOGETHER = 8  # vectors of U that a thread has on their way at once


class Places:
    """Where a block's matrices lie in shared memory, in words; constants of a kernel."""

    def __init__(self, shape: PassShape):
        self.W = 2 * shape.threads  # behind the room of block_sum
        self.W_size = shape.width * shape.line
        self.b = self.W + 2 * self.W_size
        self.matrices = self.b + 2 * shape.width  # X, a of each hidden layer, delta, each f'
        self.size = shape.rows * shape.line
        self.slopes_size = shape.rows * shape.width // 2


def make_multiply(shape: PassShape, transposed: bool) -> Any:
    """multiply(ring, sums, a, at, n0): add a warp's 16 rows times 32 columns of a W to the sums.

    a has the rows' fragments; W's matrix lies at the word `at`. The columns are destinations from n0 on (eq. 7),
    or, transposed, sources (eq. 9).
    """
    line, steps = shape.line, shape.width // 16

    @device
    def multiply(ring, sums, a, at, n0):
        b = cuda.local.array(4, np.uint32)
        lane = thread() % LANES
        if transposed:
            address = shared_address(ring, at + (n0 + lane // 16 * 8 + lane % 8) * line + lane // 8 % 2 * 4)
        else:
            address = shared_address(ring, at + lane % 16 * line + n0 // 2 + lane // 16 * 4)
        for k in range(steps):
            for j in range(2):  # of 16 columns
                if transposed:
                    put_four(b, 0, load_matrices(ring, address + (j * 16 * line + k * 8) * WORD_BYTES))
                else:
                    put_four(b, 0, load_matrices_transposed(ring, address + (k * 16 * line + j * 8) * WORD_BYTES))
                for h in range(2):  # of 8
                    add(sums, 8 * j + 4 * h, four(a, 4 * k), b, h)

    return multiply


def make_load_rows(shape: PassShape) -> Any:
    """load_rows(ring, a, at): the fragments of the warp's 16 rows of a matrix."""
    line, steps = shape.line, shape.width // 16

    @device
    def load_rows(ring, a, at):
        lane = thread() % LANES
        address = shared_address(ring, at + (thread() // LANES * 16 + lane % 16) * line + lane // 16 * 4)
        for k in range(steps):
            put_four(a, 4 * k, load_matrices(ring, address + k * 8 * WORD_BYTES))

    return load_rows


def make_bring(shape: PassShape) -> Any:
    """(bring_weights, bring_inputs): begin to copy W and b, or X of some examples, and zeros where there is nothing."""
    width, rows, line, threads = shape.width, shape.rows, shape.line, shape.threads
    vectors = width // 2 // VECTOR_WORDS  # of a row
    lines = threads // vectors
    places = Places(shape)
    places_W, W_size, places_b, matrices = places.W, places.W_size, places.b, places.matrices

    @device
    def bring_weights(work, s):
        """W for the s-th product of a pass: up through the layers, with b, then down to the second one."""
        n_layers = work.step.n_layers
        if s < 2 * n_layers - 1:
            layer = work.layers[s if s < n_layers else 2 * n_layers - 1 - s]
            row, at = thread() // vectors, thread() % vectors * VECTOR_WORDS
            n_in, out_words = layer.n_in, layer.out_words
            target, source = places_W + s % 2 * W_size + row * line + at, layer.weights_read + row * out_words + at
            if lines <= width or row < width:
                for n in range(0, width, lines):
                    wanted = row + n < n_in and at < out_words
                    copy_async(work.ring, target + n * line, work.model, source + n * out_words, wanted)
            j = thread() * VECTOR_WORDS
            if s < n_layers and j < width:
                target = places_b + s % 2 * width + j
                copy_async(work.ring, target, work.model, layer.biases + j, j < layer.out_stride)
        commit_copies()

    @device
    def bring_inputs(work, chunk, r0):
        layer = work.layers[0]
        row, at = thread() // vectors, thread() % vectors * VECTOR_WORDS
        in_words, there = layer.in_words, chunk[EXAMPLES] - r0 - row
        source = layer.a_in_read + chunk[PARITY] * work.step.bottom_size + (r0 + row) * in_words + at
        target = matrices + row * line + at
        for n in range(0, rows, lines):
            wanted = n < there and at < in_words
            copy_async(work.ring, target + n * line, work.room, source + n * in_words, wanted)

    return bring_weights, bring_inputs


def make_forward(shape: PassShape, supplied: Any) -> Any:
    """forward(work, chunk, l, r0): a and f' of a hidden layer (eq. 7)."""
    width, line, threads, n_words = shape.width, shape.line, shape.threads, shape.width // 4
    places = Places(shape)
    places_W, W_size, places_b, matrices, size, slopes_size = (
        places.W, places.W_size, places.b, places.matrices, places.size, places.slopes_size
    )  # fmt: skip
    multiply, load_rows = make_multiply(shape, False), make_load_rows(shape)
    activate_all, kept = make_activate_all(np.float32, SUMS, supplied), make_activation(np.float32, supplied)[-1]

    @device
    def forward(work, chunk, l, r0):
        """z_j = sum_i W_ji a_i + b_j, a_j = f(z_j), f'(z_j) for the examples r0 ... r0 + rows - 1, a warp 16 of them.

        Reads a (rows, n_in), W (n_in, n_out) and b in shared memory; writes a (rows, n_out) and f' there, with what
        dropout makes of them; zeros for what there is not. f' is read by the thread that wrote it, a by all.
        """
        step, layer, ring = work.step, work.layers[l], work.ring
        a, sums = cuda.local.array(n_words, np.uint32), cuda.local.array(SUMS, real)
        slopes = cuda.local.array(SUMS, real)
        load_rows(ring, a, matrices + l * size)
        lane = thread() % LANES
        line0 = thread() // LANES * 16 + lane // 4
        n_out, activation, r = layer.n_out, layer.activation, r0 + line0
        there_0, there_1 = r < chunk[EXAMPLES], r + 8 < chunk[EXAMPLES]
        drops, scale = step.threshold > 0, real(1.0 / step.keep)
        W_at, j = places_W + l % 2 * W_size, 2 * (lane % 4)
        b_at = places_b + l % 2 * width + j
        above = matrices + (l + 1) * size + line0 * line + lane % 4
        kept_at = matrices + (step.n_layers + 1) * size + l * slopes_size + thread()
        for j0 in range(0, width, COLUMNS):
            if j0 < n_out:
                for n in range(SUMS):
                    sums[n] = ring[b_at + j0 + n // 4 * 8 + n % 2]
                multiply(ring, sums, a, W_at, j0)
                activate_all(activation, sums, slopes)
            for n in range(0, SUMS, 2):
                there, i = there_0 if n % 4 == 0 else there_1, j + j0 + n // 4 * 8
                a_0, s_0 = (sums[n], slopes[n]) if there and i < n_out else (ZERO, ZERO)
                a_1, s_1 = (sums[n + 1], slopes[n + 1]) if there and i + 1 < n_out else (ZERO, ZERO)
                if drops:
                    row = r if n % 4 == 0 else r + 8
                    share_0 = scale if kept(step, chunk, l, n_out, row, i) else ZERO
                    share_1 = scale if kept(step, chunk, l, n_out, row, i + 1) else ZERO
                    a_0, a_1, s_0, s_1 = a_0 * share_0, a_1 * share_1, s_0 * share_0, s_1 * share_1
                ring[above + n // 4 * 4 + n % 4 * 4 * line] = number_of(pack_bf16(a_0, a_1))
                ring[kept_at + n // 2 * threads] = number_of(pack_bf16(s_0, s_1))
            above, kept_at = above + COLUMNS // 2, kept_at + SUMS // 2 * threads

    return forward


def make_output_delta(shape: PassShape, supplied: Any, supplied_loss: Any) -> Any:
    """output_delta(work, chunk, r0): delta of the output layer (eq. 8); returns the thread's part of the losses."""
    width, line, n_words = shape.width, shape.line, shape.width // 4
    places = Places(shape)
    places_W, W_size, places_b, matrices, size = places.W, places.W_size, places.b, places.matrices, places.size
    multiply, load_rows = make_multiply(shape, False), make_load_rows(shape)
    row = make_row_of_four(supplied, supplied_loss)
    sum_of_row, largest_of_row, larger, power_of, softmax_of, delta_of, loss_of = row
    LARGEST, POWERS, DELTA = range(3)

    @device
    def output_delta(work, chunk, r0):
        """delta_j = (a_j - y_j) f'(z_j) and the losses (eq. 4) of the examples r0 ... r0 + rows - 1, a warp 16 of them.

        Reads a (rows, n_in), W (n_in, n_out) and b in shared memory, T and the examples' weights; writes delta
        (rows, n_out) there, zeros for what there is not. For softmax the product is made three times, for the largest z
        of a row, the sum of the powers and delta, which costs less than keeping z. A row is four threads'.
        """
        step, ring, room = work.step, work.ring, work.room
        l = step.n_layers - 1
        layer = work.layers[l]
        a, sums = cuda.local.array(n_words, np.uint32), cuda.local.array(SUMS, real)
        load_rows(ring, a, matrices + l * size)
        lane = thread() % LANES
        line0, column = thread() // LANES * 16 + lane // 4, 2 * (lane % 4)
        n_out, stride, activation = layer.n_out, layer.out_stride, layer.activation
        r = r0 + line0  # a thread has two rows of a product: this one and the eighth behind it
        there_0, there_1 = r < chunk[EXAMPLES], r + 8 < chunk[EXAMPLES]
        first = step.targets + chunk[PARITY] * step.targets_size + column
        targets_0 = first + (r if there_0 else r0) * stride  # some row, where there is none: no load waits for a branch
        targets_1 = first + (r + 8 if there_1 else r0) * stride
        weights = step.row_weights + chunk[PARITY] * step.rows + r
        weight_0, weight_1 = room[weights] if there_0 else ZERO, room[weights + 8] if there_1 else ZERO
        counts_0, counts_1 = weight_0 != ZERO, weight_1 != ZERO
        top_0, top_1, powers_0, powers_1, agreement_0, agreement_1 = LOWEST, LOWEST, ZERO, ZERO, ZERO, ZERO
        loss_0, loss_1, limits = ZERO, ZERO, (real(step.lowest_loss), real(step.highest_loss))
        W_at, b_at = places_W + l % 2 * W_size, places_b + l % 2 * width + column
        above = matrices + (l + 1) * size + line0 * line + lane % 4
        for look in range(LARGEST if activation == SOFTMAX else DELTA, DELTA + 1):
            for j0 in range(0, width, COLUMNS):
                if j0 < n_out:
                    for n in range(SUMS):
                        sums[n] = ring[b_at + j0 + n // 4 * 8 + n % 2]
                    multiply(ring, sums, a, W_at, j0)
                for k in range(j0, j0 + COLUMNS, 8):  # not written out: the losses' code is long
                    d_0, d_1, d_2, d_3 = ZERO, ZERO, ZERO, ZERO
                    if k < n_out:  # rows of T are as long as whole groups; what is behind n_out is dropped
                        one, two = k + column < n_out, k + column + 1 < n_out
                        z_0, z_1, z_2, z_3 = sums[0], sums[1], sums[2], sums[3]
                        if look == LARGEST:
                            top_0 = larger(larger(top_0, z_0 if one else LOWEST), z_1 if two else LOWEST)
                            top_1 = larger(larger(top_1, z_2 if one else LOWEST), z_3 if two else LOWEST)
                        else:
                            y_0, y_1 = room[targets_0 + k], room[targets_0 + k + 1]
                            y_2, y_3 = room[targets_1 + k], room[targets_1 + k + 1]
                        if look == POWERS:
                            p_0, q_0 = power_of(there_0 and one, y_0, z_0, top_0)
                            p_1, q_1 = power_of(there_0 and two, y_1, z_1, top_0)
                            p_2, q_2 = power_of(there_1 and one, y_2, z_2, top_1)
                            p_3, q_3 = power_of(there_1 and two, y_3, z_3, top_1)
                            powers_0, powers_1 = powers_0 + (p_0 + p_1), powers_1 + (p_2 + p_3)
                            agreement_0, agreement_1 = agreement_0 + (q_0 + q_1), agreement_1 + (q_2 + q_3)
                        elif look == DELTA:
                            a_0 = softmax_of(activation, z_0, top_0, powers_0)
                            l_0, d_0 = delta_of(work, activation, limits, counts_0 and one, y_0, z_0, a_0, weight_0)
                            a_1 = softmax_of(activation, z_1, top_0, powers_0)
                            l_1, d_1 = delta_of(work, activation, limits, counts_0 and two, y_1, z_1, a_1, weight_0)
                            a_2 = softmax_of(activation, z_2, top_1, powers_1)
                            l_2, d_2 = delta_of(work, activation, limits, counts_1 and one, y_2, z_2, a_2, weight_1)
                            a_3 = softmax_of(activation, z_3, top_1, powers_1)
                            l_3, d_3 = delta_of(work, activation, limits, counts_1 and two, y_3, z_3, a_3, weight_1)
                            loss_0, loss_1 = loss_0 + (l_0 + l_1), loss_1 + (l_2 + l_3)
                    if look == DELTA:
                        ring[above] = number_of(pack_bf16(d_0, d_1))
                        ring[above + 8 * line] = number_of(pack_bf16(d_2, d_3))
                        above += 4
                    for n in range(SUMS - 4):  # the next 8 columns' come to the front: registers are named by constants
                        sums[n] = sums[n + 4]
            if look == LARGEST:
                top_0, top_1 = largest_of_row(top_0), largest_of_row(top_1)
            elif look == POWERS:
                powers_0, powers_1 = sum_of_row(powers_0), sum_of_row(powers_1)
                agreement_0, agreement_1 = sum_of_row(agreement_0), sum_of_row(agreement_1)
        lost = loss_of(work, chunk, activation, limits, r, weight_0, powers_0, agreement_0, loss_0)
        return lost + loss_of(work, chunk, activation, limits, r + 8, weight_1, powers_1, agreement_1, loss_1)

    return output_delta


def make_backward(shape: PassShape) -> Any:
    """backward(work, l): delta of the layer below the l-th W (eq. 9)."""
    width, line, threads, n_words = shape.width, shape.line, shape.threads, shape.width // 4
    places = Places(shape)
    places_W, W_size, matrices, size, slopes_size = (
        places.W, places.W_size, places.matrices, places.size, places.slopes_size
    )  # fmt: skip
    multiply, load_rows = make_multiply(shape, True), make_load_rows(shape)

    @device
    def backward(work, l):
        """delta_i = (sum_j W_ji delta_j) f'(z_i), a warp 16 rows.

        Reads delta (rows, n_out), W (n_in, n_out) and f' in shared memory; writes delta (rows, n_in) in the place of
        the other, whose rows no other warp reads any more.
        """
        step, ring = work.step, work.ring
        a, sums = cuda.local.array(n_words, np.uint32), cuda.local.array(SUMS, real)
        delta, n_in = matrices + step.n_layers * size, work.layers[l].n_in
        load_rows(ring, a, delta)
        lane = thread() % LANES
        place = delta + (thread() // LANES * 16 + lane // 4) * line + lane % 4
        W_at = places_W + (l + 1) % 2 * W_size  # the (2 n_layers - 1 - l)-th product's
        slopes = matrices + (step.n_layers + 1) * size + (l - 1) * slopes_size + thread()
        for i0 in range(0, width, COLUMNS):
            for n in range(SUMS):
                sums[n] = ZERO
            if i0 < n_in:
                multiply(ring, sums, a, W_at, i0)
            for n in range(0, SUMS, 2):
                pair = word_of(ring[slopes + n // 2 * threads])
                first = sums[n] * number_of(pair << HALF)
                second = sums[n + 1] * number_of(pair & HIGH_HALF)
                ring[place + n // 2 % 2 * 8 * line + n // 4 * 4] = number_of(pack_bf16(first, second))
            place, slopes = place + COLUMNS // 2, slopes + SUMS // 2 * threads

    return backward


def make_accumulate(shape: PassShape) -> Any:
    """accumulate(work, l, at, more): U and V of a layer and a tile of examples (eq. 10-11)."""
    width, line = shape.width, shape.line
    places, warps, across = Places(shape), shape.threads // LANES, shape.width // COLUMNS
    matrices, size, steps = places.matrices, places.size, shape.rows // 16

    @device
    def accumulate(work, l, at, more):
        """U_ij = sum_r a_i delta_j, V_j = sum_r delta_j; a warp has 16 sources and 32 destinations at a time.

        Reads a (rows, n_in) and delta (rows, n_out) in shared memory; writes the place `at` of the room, or adds to it
        if there is more of the part. An entry is one thread's.
        """
        layer, ring, room = work.layers[l], work.ring, work.room
        sums, v = cuda.local.array(SUMS, real), cuda.local.array(SUMS, real)
        b = cuda.local.array(4, np.uint32)
        lane = thread() % LANES
        n_in, n_out, stride = layer.n_in, layer.n_out, layer.out_stride
        a_row = (lane // 16 * 8 + lane % 8) * line + lane // 8 % 2 * 4
        d_row = lane % 16 * line + lane // 16 * 4
        for block in range(thread() // LANES, width // 16 * across, warps):
            i0, j0 = block // across * 16, block % across * COLUMNS
            if i0 < n_in and j0 < n_out:
                for n in range(SUMS):
                    sums[n], v[n] = ZERO, ZERO
                first = shared_address(ring, matrices + l * size + a_row + i0 // 2)
                second = shared_address(ring, matrices + work.step.n_layers * size + d_row + j0 // 2)
                for k in range(steps):
                    a = load_matrices_transposed(ring, first + k * 16 * line * WORD_BYTES)
                    for j in range(2):
                        put_four(b, 0, load_matrices_transposed(ring, second + (k * 16 * line + j * 8) * WORD_BYTES))
                        for h in range(2):
                            n = 8 * j + 4 * h
                            add(sums, n, a, b, h)
                            if i0 == 0:
                                add(v, n, (ONES, ONES, ONES, ONES), b, h)
                i, j = i0 + lane // 4, j0 + 2 * (lane % 4)
                p = at + layer.weights + i * stride + j
                for n in range(SUMS):
                    below, right = n // 2 % 2 * 8, n // 4 * 8 + n % 2
                    if i + below < n_in and j + right < n_out:
                        place = p + below * stride + right
                        room[place] = room[place] + sums[n] if more else sums[n]
                if i == 0:
                    p = at + layer.biases + j
                    for n in range(0, SUMS, 4):
                        for one in range(2):
                            place = p + n * 2 + one
                            if j + n * 2 + one < n_out:
                                room[place] = room[place] + v[n + one] if more else v[n + one]

    return accumulate


@functools.cache
def make_pass(shape: PassShape, supplied: Any) -> Any:
    """The operation PASS; `supplied` has what users have supplied of the network."""
    rows = shape.rows
    bring_weights, bring_inputs = make_bring(shape)
    forward, backward = make_forward(shape, supplied.activation), make_backward(shape)
    output_delta = make_output_delta(shape, supplied.output, supplied.loss)
    accumulate = make_accumulate(shape)
    wait = wait_copies(0)

    @device
    def pass_examples(work, operation, chunk, part):
        """Eq. 7-11 for a part of the chunk's examples, a tile after the other.

        Reads X (bfloat16), T and the weights of the part's examples, W (bfloat16) and b; writes the part's U and V and
        adds to its slot of losses. The part is this block's.
        """
        step = work.step
        n_layers = step.n_layers
        first = part * operation.slice_rows
        last = min(first + operation.slice_rows, chunk[EXAMPLES])
        at = step.gradients + (1 + part) * step.parameters
        lost = 0.0
        for r0 in range(first, last, rows):
            cuda.syncthreads()  # what the tile before has left is read
            bring_inputs(work, chunk, r0)
            bring_weights(work, 0)
            for s in range(2 * n_layers):
                wait()
                cuda.syncthreads()  # what the step before wrote is there, and its W is not needed any more
                bring_weights(work, s + 1)
                if s < n_layers - 1:
                    forward(work, chunk, s, r0)
                elif s == n_layers - 1:
                    lost += output_delta(work, chunk, r0)
                else:
                    l = 2 * n_layers - 1 - s
                    accumulate(work, l, at, r0 > first)
                    if l > 0:
                        cuda.syncthreads()  # delta is read by all
                        backward(work, l)
        in_all = block_sum(work.partial, lost)
        if thread() == 0 and first < last:
            work.sums[part] += in_all * work.sums[step.rates + 2 * chunk[MINIBATCH]] * chunk[IN_MINIBATCH]

    return pass_examples


@functools.cache
def make_reduce(shape: PassShape) -> Any:
    """The operation REDUCE."""
    threads, warps, W_place = shape.threads, shape.threads // LANES, Places(shape).W
    n_numbers = 4 * TOGETHER
    open_rule, _, update = make_update(np.float32, shape.per_word)

    @device
    def reduce(work, operation, chunk, row):
        """U and V of a chunk: the sum over its parts, for REDUCED parameters; the update (eq. 12-13), if that is all.

        Reads the parts (parameters,), a warp each warps-th part and a lane a vector; the warps' sums are added in their
        order. Writes W, b and their moments, or U and V. The parameters are this block's, as is the slot of W^2.
        """
        step, room, ring = work.step, work.room, work.ring
        vectors, u = cuda.local.array(n_numbers, real), cuda.local.array(4, real)
        warp, lane = thread() // LANES, thread() % LANES
        parts = quotient(max(0, chunk[EXAMPLES]) + operation.slice_rows - 1, operation.slice_rows)
        p, part = row * REDUCED + 4 * lane, warp
        place, apart = step.gradients + (1 + part) * step.parameters + p, warps * step.parameters
        for n in range(4):
            u[n] = ZERO
        if p < step.parameters:
            while part + (TOGETHER - 1) * warps < parts:
                for k in range(TOGETHER):
                    load_vector(vectors, 4 * k, room, place + k * apart)
                for n in range(n_numbers):
                    u[n % 4] += vectors[n]
                part, place = part + TOGETHER * warps, place + TOGETHER * apart
            while part < parts:
                load_vector(vectors, 0, room, place)
                for n in range(4):
                    u[n] += vectors[n]
                part, place = part + warps, place + apart
        cuda.syncthreads()  # what was in the ring has been read
        for n in range(4):
            ring[W_place + warp * REDUCED + 4 * lane + n] = u[n]
        cuda.syncthreads()
        rule, squares, finite = open_rule(work, chunk, 1.0), 0.0, True
        for c in range(thread(), REDUCED, threads):
            p = row * REDUCED + c
            if p < step.parameters:
                total = ZERO
                for w in range(warps):
                    total += ring[W_place + w * REDUCED + c]
                if operation.updates:
                    is_weight = p < step.weights_end
                    w_p, good = update(rule, work.model, p, total, is_weight)
                    squares += float(w_p) * float(w_p) if is_weight else 0.0
                    finite = finite and good
                else:
                    at = step.gradients + p
                    room[at] = room[at] + total if chunk[OFFSET] > 0 else total
        if operation.updates:
            note(work, chunk, squares, row, finite)

    return reduce
