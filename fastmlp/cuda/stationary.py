"""Small minibatches of a network with one hidden layer, in bfloat16, with one wait a step: W stays where it is used.

A step of such a network is short next to the time that blocks take to wait for one another. So the kernel is *weight
stationary*: a block owns 16 hidden units for a whole launch, and their W and b stay in the registers of its warps, as
float32, each warp having a range of the inputs. With X of the minibatch in its shared memory it needs nothing of other
blocks but a of the hidden layer. That is what all wait for, once a step; then each works out z and delta of the output
for itself, updates its own copy of the output's W, finds delta of its own units, and for each of its inputs U, the new
W, and z of the next minibatch. Other blocks gather what comes next (`fill`), up to BUFFERS minibatches ahead.

W lies as U comes from tensor cores (see warp.py): a thread has of U^T = delta^T X the sums of 2 units and 2 inputs that
follow one another. That is also what it has of the factor W^T of z^T = W^T X^T, so the new W goes from its sums into
the next product without a word to another thread. Likewise z of an example's outputs, packed, is a factor of delta of
the hidden layer; and a is written twice, as the two products that read it have their factors.

By count a step of 784-128-10 with 64 examples has, in each of 8 blocks, 13 x 16 products of 16 x 8 x 16 terms for the
busiest of a multiprocessor's 4 parts, half a microsecond of an H100's tensor cores at their peak; its 8 warps add up
32 KB of partial z; it reads 32 KB of a, 4 KB of each warp, 100 KB of X, and 70 KB for each moment that the optimizer
has, which it writes, too, at 64 bytes a cycle. Beside that stands one wait, about a microsecond. No GPU has run it yet.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from fastmlp.codes import ADAM, DESCENT, SOFTMAX
from fastmlp.cuda.accumulate import make_update, penalty
from fastmlp.cuda.activation import make_activate_all, make_activation
from fastmlp.cuda.backward import make_row_of_four
from fastmlp.cuda.barrier import ARRIVALS, GATHERED, LINE, wait_for
from fastmlp.cuda.compiling import device
from fastmlp.cuda.fragments import LOWEST, ONES, WORD_BYTES, ZERO, add, four, put_four, real
from fastmlp.cuda.gather import make_gather
from fastmlp.cuda.layout import BUFFERS, GATHER_ROWS, StationaryShape
from fastmlp.cuda.operands import make_keep
from fastmlp.cuda.ptx import (
    arrive,
    commit_copies,
    copy_async_at,
    global_address,
    load_matrices,
    load_matrices_transposed,
    load_vector,
    mma_bf16,
    number_of,
    pack_bf16,
    quotient,
    shared_address,
    store_bf16,
    thread,
    wait_copies,
    word_of,
)
from fastmlp.cuda.warp import LANES
from fastmlp.cuda.work import EXAMPLES, MINIBATCH, PARITY

NOTHING = np.uint32(0)  # two zeros in bfloat16


@device
def chunk_of(step, number):
    """What is known of a minibatch (see work.py)."""
    examples = min(step.batch_size, step.m - number * step.batch_size)
    return number, number, 0, examples, examples, number % BUFFERS


@device
def first_step(warps, n_in, warp):
    """Where the inputs of a warp begin, in units of 16: all warps have as many, but for one."""
    return warp * ((n_in + 15) // 16) // warps


class Entries(NamedTuple):
    """What is done with some W or b of a thread, W[e : e + count]."""

    read: Any
    recall: Any
    change: Any
    write: Any


def make_entries(shape: StationaryShape, count: int, place: Any, is_weight: bool) -> Entries:
    """The functions for `count` entries.

    place(work, n) is (the place of W[e + n] in the model, whether there is such an entry, whether it is for this thread
    to write it).
    """
    threads, second_at = shape.threads, shape.entries * shape.threads
    _, updated, _ = make_update(np.float32, shape.per_word)
    keep = make_keep(shape.per_word)

    @device
    def moments_at(work, e):
        """Where the moments are that only this thread reads, next to those of its neighbours."""
        block = cuda.blockIdx.x + (cuda.blockIdx.x if work.step.rule == ADAM else 0)  # two moments or one
        return work.step.moments + block * second_at + e * threads + thread()

    @device
    def read(work, rule, W, e):
        """W and the moments from the model: zeros where there is no entry, which stay so."""
        step, model, room, at = work.step, work.model, work.room, moments_at(work, e)
        for n in range(count):
            p, there, _ = place(work, n)
            W[e + n] = model[p] if there else ZERO
            if rule.kind != DESCENT:
                room[at + n * threads] = model[step.first + p] if there else ZERO
            if rule.kind == ADAM:
                room[at + second_at + n * threads] = model[step.second + p] if there else ZERO

    @device
    def recall(work, rule, e, moments):
        """The moments, if the rule has any: moments[: count], and behind them the second ones."""
        room, at = work.room, moments_at(work, e)
        if rule.kind != DESCENT:
            for n in range(count):
                moments[n] = room[at + n * threads]
        if rule.kind == ADAM:
            for n in range(count):
                moments[count + n] = room[at + second_at + n * threads]

    @device
    def change(work, rule, W, e, u, moments):
        """Update W and its moments, which have been recalled, by its sum u."""
        room, at = work.room, moments_at(work, e)
        if rule.kind == DESCENT:
            for n in range(count):
                W[e + n] = updated(DESCENT, rule, W[e + n], u[n], ZERO, ZERO, is_weight)[0]
        elif rule.kind == ADAM:
            for n in range(count):
                m, v = moments[n], moments[count + n]
                W[e + n], moments[n], moments[count + n] = updated(ADAM, rule, W[e + n], u[n], m, v, is_weight)
            for n in range(count):
                room[at + n * threads], room[at + second_at + n * threads] = moments[n], moments[count + n]
        else:
            for n in range(count):
                W[e + n], m, _ = updated(rule.kind, rule, W[e + n], u[n], moments[n], ZERO, is_weight)
                room[at + n * threads] = m

    @device
    def write(work, rule, W, e):
        """W and the moments to the model."""
        step, model, room, at = work.step, work.model, work.room, moments_at(work, e)
        for n in range(count):
            p, there, writes = place(work, n)
            if there and writes:
                model[p] = W[e + n]
                keep(model, step.low, p, W[e + n], is_weight)
                if rule.kind != DESCENT:
                    model[step.first + p] = room[at + n * threads]
                if rule.kind == ADAM:
                    model[step.second + p] = room[at + second_at + n * threads]
                if W[e + n] - W[e + n] != ZERO:
                    work.sums[step.bad_weight] = 1.0  # whoever writes it, writes the same

    return Entries(read, recall, change, write)


@functools.cache
def make_output(shape: StationaryShape, supplied: Any) -> Any:
    """(weights, biases, share, output_delta, update_output): what each block does for the layer of the output."""
    warps, places, W_line = shape.warps, shape.places, shape.line
    delta_line, groups = shape.delta_line, shape.warps // 2
    W_at, error_at, delta_at, first_W, first_b = (
        places.W, places.error, places.delta, shape.first_output, shape.first_bias
    )  # fmt: skip
    row = make_row_of_four(supplied.output, supplied.loss)
    sum_of_row, largest_of_row, larger, power_of, _, delta_of, loss_of = row

    @device
    def place_of_weight(work, n):
        top, lane = work.layers[1], thread() % LANES
        i, j = thread() // LANES * 16 + lane // 4 + n // 2 % 2 * 8, 2 * (lane % 4) + n // 4 * 8 + n % 2
        return top.weights + i * top.out_stride + j, i < top.n_in and j < top.n_out, cuda.blockIdx.x == 0

    @device
    def place_of_bias(work, n):
        top, j = work.layers[1], 2 * (thread() % 4) + n // 2 * 8 + n % 2
        return top.biases + j, j < top.n_out, cuda.blockIdx.x == 0 and thread() < 4

    weights = make_entries(shape, 8, place_of_weight, True)
    biases = make_entries(shape, 4, place_of_bias, False)
    recall_weights, change_weights, recall_biases, change_biases = (
        weights.recall, weights.change, biases.recall, biases.change
    )  # fmt: skip

    @device
    def share(ring, W):
        """W (n_hidden, n_out) to shared memory, in bfloat16, for all warps of the block."""
        at = W_at + (thread() // LANES * 16 + thread() % LANES // 4) * W_line + thread() % 4
        for n in range(0, 8, 2):
            word = pack_bf16(W[first_W + n], W[first_W + n + 1])
            ring[at + n // 2 % 2 * 8 * W_line + n // 4 * 4] = number_of(word)

    @device
    def output_delta(work, chunk, W, a, slopes):
        """delta of the output (eq. 8) and of the block's hidden units (eq. 9) for 8 examples of each warp.

        Reads W (n_hidden, n_out) in shared memory, b in registers, the fragments a of the warp's examples, f' in
        registers, T and the examples' weights; writes delta (examples, n_out) and delta^T (units, examples) to shared
        memory. Returns what the thread's outputs add to the losses, if it is of the block that counts them.
        """
        step, ring, room, top = work.step, work.ring, work.room, work.layers[1]
        z, b = cuda.local.array(16, real), cuda.local.array(4, np.uint32)
        warp, lane = thread() // LANES, thread() % LANES
        line, column = warp * 8 + lane // 4, 2 * (lane % 4)
        n_out, activation = top.n_out, top.activation
        there = line < chunk[EXAMPLES]
        weight = room[step.row_weights + chunk[PARITY] * step.rows + line] if there else ZERO
        targets = step.targets + chunk[PARITY] * step.targets_size + (line if there else 0) * top.out_stride
        there_0, there_1, there_2, there_3 = column < n_out, column + 1 < n_out, column + 8 < n_out, column + 9 < n_out
        y_0, y_1 = room[targets + (column if there_0 else 0)], room[targets + (column + 1 if there_1 else 0)]
        y_2, y_3 = room[targets + (column + 8 if there_2 else 0)], room[targets + (column + 9 if there_3 else 0)]
        for n in range(16):
            z[n] = ZERO
        z[0], z[1], z[4], z[5] = four(W, first_b)
        address = shared_address(ring, W_at + lane % 16 * W_line + lane // 16 * 4)
        for k in range(warps):  # 16 units each
            put_four(b, 0, load_matrices_transposed(ring, address + k * 16 * W_line * WORD_BYTES))
            for h in range(2):
                # two sums, so that half as many products wait for one another
                add(z, k % 2 * 8 + 4 * h, (word_of(a[2 * k]), NOTHING, word_of(a[2 * k + 1]), NOTHING), b, h)
        z_0, z_1, z_2, z_3 = z[0] + z[8], z[1] + z[9], z[4] + z[12], z[5] + z[13]
        limits = real(step.lowest_loss), real(step.highest_loss)
        highest, powers, agreement = LOWEST, ZERO, ZERO
        p_0, p_1, p_2, p_3 = ZERO, ZERO, ZERO, ZERO
        if activation == SOFTMAX:
            highest = larger(larger(highest, z_0 if there_0 else LOWEST), z_1 if there_1 else LOWEST)
            highest = larger(larger(highest, z_2 if there_2 else LOWEST), z_3 if there_3 else LOWEST)
            highest = largest_of_row(highest)
            p_0, q_0 = power_of(there_0, y_0, z_0, highest)
            p_1, q_1 = power_of(there_1, y_1, z_1, highest)
            p_2, q_2 = power_of(there_2, y_2, z_2, highest)
            p_3, q_3 = power_of(there_3, y_3, z_3, highest)
            powers = sum_of_row((p_0 + p_1) + (p_2 + p_3))
            agreement = sum_of_row((q_0 + q_1) + (q_2 + q_3))
            p_0, p_1, p_2, p_3 = p_0 / powers, p_1 / powers, p_2 / powers, p_3 / powers
        counts = weight != ZERO
        l_0, d_0 = delta_of(work, activation, limits, counts and there_0, y_0, z_0, p_0, weight)
        l_1, d_1 = delta_of(work, activation, limits, counts and there_1, y_1, z_1, p_1, weight)
        l_2, d_2 = delta_of(work, activation, limits, counts and there_2, y_2, z_2, p_2, weight)
        l_3, d_3 = delta_of(work, activation, limits, counts and there_3, y_3, z_3, p_3, weight)
        first, second = pack_bf16(d_0, d_1), pack_bf16(d_2, d_3)
        at = error_at + line * W_line + lane % 4
        ring[at], ring[at + 4] = number_of(first), number_of(second)
        own = shared_address(ring, W_at + (cuda.blockIdx.x * 16 + lane % 16) * W_line + lane // 16 * 4)
        d = mma_bf16(load_matrices(ring, own), (first, second), (ZERO, ZERO, ZERO, ZERO))
        at = delta_at + lane // 4 * delta_line + warp * 4 + lane % 4
        ring[at] = number_of(pack_bf16(d[0] * slopes[0], d[1] * slopes[1]))
        ring[at + 8 * delta_line] = number_of(pack_bf16(d[2] * slopes[2], d[3] * slopes[3]))
        if cuda.blockIdx.x > 0:
            return 0.0
        return loss_of(work, chunk, activation, limits, line, weight, powers, agreement, (l_0 + l_1) + (l_2 + l_3))

    @device
    def update_output(work, rule, W, a):
        """U, V (eq. 10-11) and the update of the output's W and b: each block has its own, and all come to the same.

        Reads delta (examples, n_out) in shared memory and the fragments a of 16 hidden units of each warp; writes W and
        b to registers and W to shared memory. Returns what W adds to eq. 5, in the first block.
        """
        ring, lane = work.ring, thread() % LANES
        u, v, b = cuda.local.array(8, real), cuda.local.array(8, real), cuda.local.array(4, np.uint32)
        of_weights, of_biases = cuda.local.array(16, real), cuda.local.array(8, real)
        recall_weights(work, rule, first_W, of_weights)
        recall_biases(work, rule, first_b, of_biases)
        for n in range(8):
            u[n], v[n] = ZERO, ZERO
        address = shared_address(ring, error_at + lane % 16 * W_line + lane // 16 * 4)
        for s in range(groups):
            put_four(b, 0, load_matrices_transposed(ring, address + s * 16 * W_line * WORD_BYTES))
            n = 4 * s
            for h in range(2):
                add(u, 4 * h, (word_of(a[n]), word_of(a[n + 1]), word_of(a[n + 2]), word_of(a[n + 3])), b, h)
                add(v, 4 * h, (ONES, ONES, ONES, ONES), b, h)
        squares = ZERO
        if cuda.blockIdx.x == 0:
            for n in range(8):
                squares += W[first_W + n] * W[first_W + n]
        for n in range(2):  # all rows of v are the same
            v[2 + n] = v[4 + n]
        change_weights(work, rule, W, first_W, u, of_weights)
        change_biases(work, rule, W, first_b, v, of_biases)
        share(ring, W)
        return squares

    return weights, biases, share, output_delta, update_output


def in_turn(functions: list[Any]) -> Any:
    """each(mine, *arguments): the sum of what the first `mine` functions return.

    A loop, written out: the functions differ by which registers they use, which are named by constants.
    """
    if not functions:

        @device
        def nothing(mine, *arguments):
            return ZERO

        return nothing
    n, last, before = len(functions) - 1, functions[-1], in_turn(functions[:-1])

    @device
    def each(mine, *arguments):
        total = before(mine, *arguments)
        if mine > n:
            total += last(*arguments)
        return total

    return each


def make_inputs(shape: StationaryShape, n: int) -> Any:
    """(read, multiply, update, write): what a warp does for the n-th 16 of its inputs."""
    warps, groups, first_W = shape.warps, shape.warps // 2, 8 * n

    @device
    def place(work, k):
        bottom, warp, lane = work.layers[0], thread() // LANES, thread() % LANES
        i = first_step(warps, bottom.n_in, warp) * 16 + n * 16 + k // 4 * 8 + lane % 4 * 2 + k % 2
        j = cuda.blockIdx.x * 16 + k // 2 % 2 * 8 + lane // 4
        return bottom.weights + i * bottom.out_stride + j, i < bottom.n_in and j < bottom.n_out, True

    entries = make_entries(shape, 8, place, True)
    read_entries, recall, change, write_entries = entries

    @device
    def read(work, rule, W):
        read_entries(work, rule, W, first_W)
        return ZERO

    @device
    def multiply(work, W, sums, X, group_bytes):
        """The terms of z^T = W^T X^T (eq. 7): reads X in shared memory, adds to the sums of z^T (units, examples)."""
        ring, k, b = work.ring, first_W, cuda.local.array(4, np.uint32)
        a_0, a_1 = pack_bf16(W[k], W[k + 1]), pack_bf16(W[k + 2], W[k + 3])
        a_2, a_3 = pack_bf16(W[k + 4], W[k + 5]), pack_bf16(W[k + 6], W[k + 7])
        for s in range(groups):
            put_four(b, 0, load_matrices(ring, X + s * group_bytes + n * 8 * WORD_BYTES))
            for h in range(2):
                add(sums, 8 * s + 4 * h, (a_0, a_1, a_2, a_3), b, h)
        return ZERO

    @device
    def update(work, rule, W, delta, sums, X, X_next, group_bytes, more):
        """U^T = delta^T X (eq. 10), the update of W, and, if there is more to come, the terms of the next z.

        Reads delta^T (units, examples) as fragments, and X of both minibatches in shared memory; writes W and the sums
        of z^T, each thread its own. Returns what the thread's W adds to eq. 5.
        """
        u, b, moments = cuda.local.array(8, real), cuda.local.array(4, np.uint32), cuda.local.array(16, real)
        ring, squares = work.ring, ZERO
        recall(work, rule, first_W, moments)
        for k in range(8):
            u[k] = ZERO
        for s in range(groups):
            put_four(b, 0, load_matrices_transposed(ring, X + s * group_bytes + n * 8 * WORD_BYTES))
            for h in range(2):
                add(u, 4 * h, four(delta, 4 * s), b, h)
        for k in range(8):
            squares += W[first_W + k] * W[first_W + k]
        change(work, rule, W, first_W, u, moments)
        if more:
            multiply(work, W, sums, X_next, group_bytes)
        return squares

    @device
    def write(work, rule, W):
        write_entries(work, rule, W, first_W)
        return ZERO

    return read, multiply, update, write


@functools.cache
def make_bring(shape: StationaryShape) -> Any:
    """The function that begins to copy X of a minibatch."""
    warps, rows = shape.warps, shape.rows

    @device
    def bring(work, number, at, line):
        """X (examples, n_in) from the room to a place in shared memory, with zeros to whole 16 and to all rows."""
        bottom, chunk = work.layers[0], chunk_of(work.step, number)
        warp, lane = thread() // LANES, thread() % LANES
        words = bottom.in_words
        source = global_address(
            work.room, bottom.a_in_read + chunk[PARITY] * work.step.bottom_size + warp * words + lane * 4
        )
        target = shared_address(work.ring, at + warp * line + lane * 4)
        for n in range(0, line - 4 - lane * 4, 4 * LANES):
            there, from_here, to = n + lane * 4 < words, source + n * WORD_BYTES, target + np.uint32(n * WORD_BYTES)
            for k in range(rows // warps):
                wanted = there and warp + k * warps < chunk[EXAMPLES]
                copy_async_at(work.ring, to, work.room, from_here, wanted)
                from_here, to = from_here + warps * words * WORD_BYTES, to + np.uint32(warps * line * WORD_BYTES)
        commit_copies()

    return bring


@functools.cache
def make_publish(shape: StationaryShape, supplied: Any) -> Any:
    """publish: a of the block's units."""
    warps, groups, half, first_b = shape.warps, shape.warps // 2, shape.published // 2, shape.first_bias + 4
    activate_all, kept = make_activate_all(np.float32, 4, supplied), make_activation(np.float32, supplied)[-1]

    @device
    def publish(work, chunk, W, sums, slopes, at):
        """z = sum of the warps' parts + b, a = f(z) (eq. 7) and f' for the examples of a minibatch, 8 of a warp.

        Reads and writes the parts at the word `at` of shared memory, which nobody reads any more. Writes a, zeros for
        what there is not, as the fragments of `output_delta` and of `update_output`, and f' to registers.
        """
        step, ring, room, bottom = work.step, work.ring, work.room, work.layers[0]
        z = cuda.local.array(4, real)
        warp, lane, block = thread() // LANES, thread() % LANES, cuda.blockIdx.x
        part = at + warp * (warps * 4 * LANES) + lane
        for n in range(4 * warps):
            ring[part + n * LANES] = sums[n]
        cuda.syncthreads()
        part = at + warp * (4 * LANES) + lane
        for n in range(4):
            z[n] = W[first_b + n // 2]
            for w in range(warps):
                z[n] += ring[part + w * (warps * 4 * LANES) + n * LANES]
        activate_all(bottom.activation, z, slopes)
        drops, scale = step.threshold > 0, real(1.0 / step.keep)
        unit, example = block * 16 + lane // 4, warp * 8 + lane % 4 * 2
        for n in range(4):
            j, r = unit + n // 2 * 8, example + n % 2
            share = real(1) if j < bottom.n_out and r < chunk[EXAMPLES] else ZERO
            if drops:
                share = share * (scale if kept(step, chunk, 0, bottom.n_out, r, j) else ZERO)
            z[n] = z[n] * share if share != ZERO else ZERO
            slopes[n] = slopes[n] * share if share != ZERO else ZERO
        first = step.published + chunk[MINIBATCH] % 2 * (2 * half)
        # of the warp's examples in turn, units next to one another; a fragment's words are four to a thread
        word = first + (warp * (warps // 2) + block // 2) * 128 + lane % 4 * 32 + lane // 8 * 4 + block % 2 * 2
        for n in range(4):
            store_bf16(room, 2 * (word + n % 2 * 16 + n // 2) + lane // 4 % 2, z[n])
        word = first + half + (block * groups + warp // 2) * 128 + lane * 4 + warp % 2 * 2
        room[word] = number_of(pack_bf16(z[0], z[1]))
        room[word + 1] = number_of(pack_bf16(z[2], z[3]))

    return publish


@functools.cache
def make_stationary(shape: StationaryShape, supplied: Any) -> Any:
    """(train, fill): what the blocks that own hidden units do, and what the others do."""
    warps, rows, groups, places, half = shape.warps, shape.rows, shape.warps // 2, shape.places, shape.published // 2
    entries, n_sums, n_delta = shape.entries, 4 * shape.warps, 2 * shape.warps
    first_b, own_b = shape.first_bias, shape.first_bias + 4
    X_at, delta_at, delta_line, parts = places.X, places.delta, shape.delta_line, shape.parts
    top_weights, top_biases, share, output_delta, update_output = make_output(shape, supplied)
    read_top_W, write_top_W, read_top_b, write_top_b = (
        top_weights.read, top_weights.write, top_biases.read, top_biases.write
    )  # fmt: skip
    steps = zip(*(make_inputs(shape, n) for n in range(shape.steps)))
    read_inputs, multiply_inputs, update_inputs, write_inputs = (in_turn(list(functions)) for functions in steps)
    bring, first_W = make_bring(shape), shape.first_output
    publish = make_publish(shape, supplied.activation)
    open_rule, _, _ = make_update(np.float32, shape.per_word)
    gather, wait = make_gather(np.float32, shape.per_word, GATHER_ROWS), wait_copies(0)

    @device
    def place_of_bias(work, n):
        bottom, lane = work.layers[0], thread() % LANES
        j = cuda.blockIdx.x * 16 + n * 8 + lane // 4
        return bottom.biases + j, j < bottom.n_out, thread() < LANES and lane % 4 == 0

    read_b, recall_b, change_b, write_b = make_entries(shape, 2, place_of_bias, False)

    @device
    def load_fragments(room, a, place):
        """Four words of each of a warp's fragments, a vector of a thread after the other."""
        for n in range(n_delta // 4):
            load_vector(a, 4 * n, room, place + n * 128)

    @device
    def await_inputs(work, operation, counters, number):
        """Wait until a minibatch has been gathered."""
        n = number - work.step.from_chunk
        wait_for(counters, GATHERED + number % BUFFERS * LINE, operation.rows * (n // BUFFERS + 1))

    @device
    def update_bias(work, rule, W, delta):
        """V (eq. 11) and the update of b of the block's units; each warp has its own, and all come to the same."""
        v, u, moments = (ZERO, ZERO, ZERO, ZERO), cuda.local.array(2, real), cuda.local.array(4, real)
        recall_b(work, rule, own_b, moments)
        for s in range(groups):
            v = mma_bf16(four(delta, 4 * s), (ONES, ONES), v)
        u[0], u[1] = v[0], v[2]  # all columns are the same
        change_b(work, rule, W, own_b, u, moments)

    @device
    def train(work, operation, counters):
        """The chunks of a launch; the block owns 16 hidden units, its copy of the output's W and b, and their moments.

        Reads what `fill` gathers, a of all blocks, and in the beginning W, b and their moments; writes a of its units,
        and in the end W, b and the moments, the output's the first block. Each thread has its slot of W^2, those of the
        first block slots of the losses, too: their sums do not depend on where launches begin.
        """
        step, ring, room, bottom = work.step, work.ring, work.room, work.layers[0]
        W, slopes, sums = cuda.local.array(entries, real), cuda.local.array(4, real), cuda.local.array(n_sums, real)
        a, a_by_unit = cuda.local.array(n_delta, real), cuda.local.array(n_delta, real)
        delta = cuda.local.array(n_delta, np.uint32)
        warp, lane = thread() // LANES, thread() % LANES
        begin, end, n_steps = step.from_chunk, step.to_chunk, (bottom.n_in + 15) // 16
        first = first_step(warps, bottom.n_in, warp)
        mine, line = first_step(warps, bottom.n_in, warp + 1) - first, n_steps * 8 + 4
        size, group_bytes = max(rows * line, parts), np.uint32(16 * line * WORD_BYTES)
        at_X = lane % 16 * line + first * 8 + lane // 16 * 4
        at_X_next = (lane // 16 * 8 + lane % 8) * line + first * 8 + lane // 8 % 2 * 4
        own_squares, number = step.squares + cuda.blockIdx.x * cuda.blockDim.x + thread(), begin - 1
        lost, squared = work.sums[thread()] if cuda.blockIdx.x == 0 else 0.0, work.sums[own_squares]
        if thread() == 0:
            for n in range(begin, min(begin + 2, end)):
                await_inputs(work, operation, counters, n)
        cuda.syncthreads()
        bring(work, begin, X_at + begin % 2 * size, line)
        rule = open_rule(work, chunk_of(step, begin), 1.0)
        read_top_W(work, rule, W, first_W)
        read_top_b(work, rule, W, first_b)
        read_b(work, rule, W, own_b)
        read_inputs(mine, work, rule, W)
        share(ring, W)
        for n in range(n_sums):
            sums[n] = ZERO
        wait()
        cuda.syncthreads()
        X_next = shared_address(ring, X_at + begin % 2 * size + at_X_next)
        multiply_inputs(mine, work, W, sums, X_next, group_bytes)
        while True:
            next_at, this_at = X_at + number % 2 * size, X_at + (number + 1) % 2 * size
            cuda.syncthreads()  # X is read
            publish(work, chunk_of(step, number + 1), W, sums, slopes, next_at)
            cuda.syncthreads()
            if thread() == 0:
                arrive(counters, ARRIVALS)
            if number + 2 < end:
                bring(work, number + 2, next_at, line)
            number += 1
            if thread() == 0:
                wait_for(counters, ARRIVALS, step.owners * (number - begin + 1))
            if thread() == LANES and number + 2 < end:
                await_inputs(work, operation, counters, number + 2)
            cuda.syncthreads()
            chunk, more = chunk_of(step, number), number + 1 < end
            fragments = step.published + number % 2 * (2 * half) + warp * (warps // 2 * 128) + lane * 4
            load_fragments(room, a, fragments)
            load_fragments(room, a_by_unit, fragments + half)
            rule = open_rule(work, chunk, 1.0)
            scale = work.sums[step.rates + 2 * number] * chunk[EXAMPLES]
            lost += output_delta(work, chunk, W, a, slopes) * scale
            wait()
            cuda.syncthreads()  # delta is there, and X of the next minibatch; W of the output is read
            address = shared_address(ring, delta_at + lane % 16 * delta_line + lane // 16 * 4)
            for s in range(groups):
                put_four(delta, 4 * s, load_matrices(ring, address + s * 8 * WORD_BYTES))
            squares = update_output(work, rule, W, a_by_unit)
            update_bias(work, rule, W, delta)
            for n in range(n_sums):
                sums[n] = ZERO
            X, X_next = shared_address(ring, this_at + at_X), shared_address(ring, next_at + at_X_next)
            squares += update_inputs(mine, work, rule, W, delta, sums, X, X_next, group_bytes, more)
            if step.l2 != 0.0:
                squared += 0.5 * penalty(work, chunk) * chunk[EXAMPLES] * float(squares)
            if not more:
                break
        write_top_W(work, rule, W, first_W)
        write_top_b(work, rule, W, first_b)
        write_b(work, rule, W, own_b)
        write_inputs(mine, work, rule, W)
        work.sums[own_squares] = squared
        if cuda.blockIdx.x == 0:
            work.sums[thread()] = lost

    @device
    def fill(work, operation, counters):
        """Gather the launch's minibatches, the blocks that own no units taking the tasks of all of them in turn.

        Writes a buffer as soon as all blocks are through with what was in it.
        """
        step = work.step
        begin, task = step.from_chunk, cuda.blockIdx.x - step.owners
        while True:
            n = quotient(task, operation.rows)
            if begin + n >= step.to_chunk:
                break
            row, chunk = (task - n * operation.rows) * operation.task_rows, chunk_of(step, begin + n)
            if thread() == 0 and n >= BUFFERS:
                wait_for(counters, ARRIVALS, step.owners * (n - BUFFERS + 2))
            cuda.syncthreads()
            if row < chunk[EXAMPLES]:
                gather(work, operation, chunk, row)
            cuda.syncthreads()
            if thread() == 0:
                arrive(counters, GATHERED + chunk[PARITY] * LINE)
            task += cuda.gridDim.x - step.owners

    return train, fill
