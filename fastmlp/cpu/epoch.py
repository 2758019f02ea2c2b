"""A whole epoch, or a part of one, in one compiled call: gather, forward, backward, accumulation, update, objective.

A chunk of examples takes two passes over the threads: over its examples (pass_examples) and over the weights
(accumulate). The passes are compiled apart from the loop over minibatches, which calls them by address: the same
machine code runs on one thread or many, for a share of whole tiles that no one else writes.
"""

import math

import numpy as np
from numba import from_dtype, types

from fastmlp.codes import EVALUATE, IDENTITY, STORE
from fastmlp.cpu import compiling
from fastmlp.cpu.accumulate import accumulate
from fastmlp.cpu.activation import drop
from fastmlp.cpu.backward import backward, output_delta
from fastmlp.cpu.compiling import kernel, once
from fastmlp.cpu.forward import forward
from fastmlp.cpu.layout import (
    CHUNK_ROWS,
    EXAMPLES,
    LAYER,
    LOOK,
    MEASURE,
    ROOM_WORDS,
    STEP,
    SUM,
    TILE_ROWS,
)
from fastmlp.cpu.operands import open_operands, round_matrix
from fastmlp.cpu.team import dismiss, help_along, is_leader, lead
from fastmlp.cpu.vector import (
    PAIR,
    atomic_add,
    broadcast,
    call_gather,
    call_pass,
    configure_matrices,
    lane_sum,
    lanes,
    load,
    numbers_at,
    panel_width,
    record_at,
    release_matrices,
    row_bytes,
    tall_tile,
    tile_rows,
    wide_tile,
)
from fastmlp.cpu.work import FLOAT64, INT64, open_work

# The words of `run_together`'s table; the first counts.
COUNT, EPOCHS, ROOMS, TOGETHER_WORDS = 8, 9, 10, 11


@kernel
def pass_examples(steps, A, F, share, shares):
    """Gather, forward (eq. 7), the output's delta (eq. 8) and backward (eq. 9) for a share of the chunk's examples.

    With step.top below the output only eq. 9 is left; it ends at the delta that layer step.bottom's U needs. Shares are
    whole tiles of rows; no share reads or writes another's rows, and every row's sums are its own. F is of the kind of
    the operands.
    """
    step = record_at(steps, 0, STEP)
    work, operands = open_work(step, A), open_operands(step, F, step.examples)
    D = work.deltas
    height, tall = tile_rows(wide_tile(A)), tile_rows(tall_tile(wide_tile(A), F))
    if step.examples >= shares * tall:  # enough for tall tiles: a share has whole ones
        height = tall
    tiles = (step.examples + height - 1) // height
    begin, end = tiles * share // shares * height, tiles * (share + 1) // shares * height
    if begin == end:
        return
    scale = 1.0 / step.keep
    if step.top == step.n_layers:
        pass_forward(step, work, operands, A, begin, end, scale)
    if step.rule == EVALUATE:
        return
    for l in range(min(step.top, step.n_layers - 1), step.bottom, -1):
        layer, below = record_at(step.layers, l, LAYER), record_at(step.layers, l - 1, LAYER)
        backward(layer, below, operands, A, D, work.slopes, begin, end, step.keep)
        if step.threshold > 0:
            drop(step, below, D, dropout_key(step, l - 1), scale, begin, end)
            round_layer(below, D, operands.d, begin, end)


@kernel
def round_layer(layer, A, factor, begin, end):
    """What a layer puts out, or its delta, in A, into operands."""
    round_matrix(A, factor, layer.a_out, layer.n_out, layer.stride, begin, end)


@kernel
def pass_forward(step, work, operands, A, begin, end, scale):
    """Gather, forward (eq. 7) and the output's delta (eq. 8) for the chunk's examples begin <= r < end, whole tiles."""
    D = work.deltas
    P = panel_width(A)
    height = tile_rows(wide_tile(A))
    count = min(end, step.examples) - begin
    bottom, top = record_at(step.layers, 0, LAYER), record_at(step.layers, step.n_layers - 1, LAYER)
    at = begin * row_bytes(A)
    x_buffer, t_buffer = step.activations + at, step.targets + at
    call_gather(step.x_gather, step.x_source, step.order, step.begin + begin, count, x_buffer, bottom.stride)
    call_gather(step.t_gather, step.t_source, step.order, step.begin + begin, count, t_buffer, bottom.stride)
    clear_rows(A, bottom.in_panels, bottom.stride, begin + count, end)
    clear_rows(work.targets, top.out_panels, bottom.stride, begin + count, end)
    for r in range(begin, end):
        work.row_weights[r] = example_weight(step, step.begin + r) if r < begin + count else 0.0
    if step.check:
        for r in range(begin, begin + count):
            x_sum = nothing_if_finite(A, bottom.a_in + r * P, bottom.in_panels, bottom.n_in, bottom.stride)
            t_sum = nothing_if_finite(work.targets, r * P, top.out_panels, top.n_out, top.stride)
            if not (x_sum == 0.0 and t_sum == 0.0):
                work.not_finite[r // height] = 1
    round_matrix(A, operands.a, bottom.a_in, bottom.n_in, bottom.stride, begin, end)
    for l in range(step.n_layers):
        layer = record_at(step.layers, l, LAYER)
        activation = layer.activation if layer.hidden else IDENTITY
        forward(layer, activation, work.parameters, operands, A, work.slopes, begin, end)
        if layer.hidden and step.threshold > 0:
            drop(step, layer, A, dropout_key(step, l), scale, begin, end)
            round_layer(layer, A, operands.a, begin, end)
    share_of_mean = step.scale * step.examples_in_batch
    for r in range(begin, end, height):
        loss = output_delta(top, step, A, D, work, r, height)
        if step.loss_offsets != 0:
            for i in range(r, min(r + height, begin + count)):
                loss += numbers_at(step.loss_offsets, FLOAT64)[example_at(step, step.begin + i)] * work.row_weights[i]
        work.losses[r // height] += loss * share_of_mean
    round_layer(top, D, operands.d, begin, end)


@kernel
def clear_rows(A, panels, stride, begin, end):
    """Zero the rows that fill up the last tile: what an earlier chunk left there may not be finite."""
    P = panel_width(A)
    for p in range(panels):
        for n in range(p * stride + begin * P, p * stride + end * P):
            A[n] = 0.0


@kernel
def dropout_key(step, l):
    """A 32-bit key for a layer in a minibatch of an epoch."""
    return (step.dropout_seed + step.minibatch * 0x9E3779B1 + l * 0x85EBCA77) & 0xFFFFFFFF


@kernel
def nothing_if_finite(A, a, panels, columns, stride):
    """Zero if a row of a matrix in panels is finite, else NaN."""
    P, V = panel_width(A), lanes(A)
    total = broadcast(A, 0.0)
    for p in range(panels):
        for v in range(0, min(P, columns - p * P), V):
            x = load(A, a + p * stride + v)
            total = total + (x - x)
    return lane_sum(total)


@kernel
def example_weight(step, n):
    """The weight of the n-th example of the epoch's order."""
    if step.sample_weight == 0:
        return 1.0
    return numbers_at(step.sample_weight, FLOAT64)[example_at(step, n)]


@kernel
def example_at(step, n):
    """Which example comes n-th."""
    return numbers_at(step.order, INT64)[n] if step.order != 0 else n


def examples_pass(steps, A, share, shares):
    """`pass_examples` with the network's own numbers as operands."""
    pass_examples(steps, A, A, share, shares)


def weights_pass(steps, A, share, shares):
    """`accumulate` with the network's own numbers as operands."""
    accumulate(steps, A, A, share, shares)


def rounded_examples_pass(steps, A, share, shares):
    """`pass_examples` with pairs of bfloat16 numbers as operands."""
    configure_matrices()
    pass_examples(steps, A, numbers_at(0, PAIR), share, shares)
    release_matrices()


def rounded_weights_pass(steps, A, share, shares):
    """`accumulate` with pairs of bfloat16 numbers as operands."""
    configure_matrices()
    accumulate(steps, A, numbers_at(0, PAIR), share, shares)
    release_matrices()


@once
def compiled_passes(real, precision):
    """The passes over the examples and over the weights, compiled for networks of dtype real and a precision."""
    word = types.intp
    signature = types.void(word, types.CPointer(from_dtype(real)), word, word)
    rounded = precision == "bf16"
    functions = (rounded_examples_pass, rounded_weights_pass) if rounded else (examples_pass, weights_pass)
    return tuple(compiling.pointer(signature, function) for function in functions)


@kernel
def weight_sum(step, begin, end):
    """The sum of the weights of the examples begin ... end of the order; their number when none has a weight."""
    if step.sample_weight == 0:
        return float(end - begin)
    total = 0.0
    for n in range(begin, end):
        total += example_weight(step, n)
    return total


@kernel
def begin_minibatch(step, minibatch):
    """Set what the passes read of a minibatch."""
    start = minibatch * step.batch_size
    examples = min(step.batch_size, step.m - start)
    if step.ends != 0:
        ends = numbers_at(step.ends, INT64)
        step.start = ends[minibatch - 1] if minibatch > 0 else 0
        step.rows = ends[minibatch] - step.start
        total = numbers_at(step.totals, FLOAT64)[minibatch]
    else:
        step.start, step.rows = start, examples
        total = weight_sum(step, start, start + examples)
    updates = step.updates + minibatch + 1
    step.minibatch = minibatch
    step.examples_in_batch = examples
    step.scale = 1.0 / total if total != 0.0 else 0.0
    step.penalty = step.l2 * step.scale if step.l2_per_example else step.l2
    step.penalty_weight = 0.5 * step.penalty * step.examples_in_batch
    step.decay = step.learning_rate * step.weight_decay
    corrections = math.sqrt(1.0 - step.beta_2**updates) / (1.0 - step.beta_1**updates)
    step.step_size = step.learning_rate * corrections


@kernel
def begin_chunk(step, chunk):
    """Set what the passes read of the chunk-th of equal chunks of the minibatch; returns whether there is such a chunk.

    A minibatch that has no examples here, but on other machines, has one empty chunk.
    """
    chunks = max(1, (step.rows + CHUNK_ROWS - 1) // CHUNK_ROWS)
    rows = ((step.rows + chunks - 1) // chunks + TILE_ROWS - 1) // TILE_ROWS * TILE_ROWS
    step.offset = chunk * rows
    step.begin = step.start + step.offset
    step.examples = min(rows, step.rows - step.offset)
    step.first_chunk = chunk == 0
    step.last_chunk = step.offset + rows >= step.rows
    step.bottom = step.from_layer if step.last_chunk else 0
    step.top = step.to_layer if step.last_chunk else step.n_layers
    return step.examples > 0 or step.first_chunk


@kernel
def begin_phase(step, phase):
    """Set the phase; returns whether the chunk needs it."""
    step.phase = phase
    if phase == EXAMPLES:
        return step.examples > 0
    if phase == SUM:
        return step.rule != EVALUATE
    if not step.last_chunk or step.rule == STORE or step.rule == EVALUATE:
        return False
    if phase == MEASURE:
        return step.clip != 0
    if step.clip:
        shorten_gradient(step)
    return step.clip != 0 or step.shared != 0


@kernel
def shorten_gradient(step):
    """Scale U / m + l2 W so that it is no longer than step.max_norm."""
    total = 0.0
    norms = numbers_at(step.norms, FLOAT64)
    for tile in range(step.n_tiles):
        total += norms[tile]
    if total > step.max_norm * step.max_norm:
        factor = step.max_norm / math.sqrt(total)
        step.scale *= factor
        step.penalty *= factor


@kernel
def shuffle(order, subset, m, seed):
    """A random order of 0 ... m - 1, or of the m numbers at an address that is not 0.

    Fisher and Yates's shuffle with SplitMix64 (Steele et al., 2014) from a seed.
    """
    for n in range(m):
        order[n] = n if subset == 0 else numbers_at(subset, INT64)[n]
    state = np.uint64(seed)
    for n in range(m - 1, 0, -1):
        state += np.uint64(0x9E3779B97F4A7C15)
        bits = state
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        bits = bits ^ (bits >> np.uint64(31))
        # the high half of the 64-bit product with n + 1 is uniform to n / 2^32
        k = np.int64(((bits >> np.uint64(32)) * np.uint64(n + 1)) >> np.uint64(32))
        order[n], order[k] = order[k], order[n]


def shuffle_at(order, subset, m, seed):
    """`shuffle` for the int64 numbers at addresses."""
    shuffle(numbers_at(order, INT64), subset, m, seed)


@once
def compiled_shuffle():
    """The shuffle, for those who lay out an epoch's order elsewhere."""
    word = types.intp
    return compiling.pointer(types.void(word, word, word, word), shuffle_at)


@kernel
def run_chunks(steps, threads):
    """Lead the team through the chunks, or go alone when there is one thread."""
    step = record_at(steps, 0, STEP)
    if step.from_chunk == 0 and not step.part:
        begin_epoch(step)
    chunks = (step.batch_size + CHUNK_ROWS - 1) // CHUNK_ROWS
    passes = 0
    for number in range(step.from_chunk, step.to_chunk):
        if number % chunks == 0:
            begin_minibatch(step, number // chunks)
        some = begin_chunk(step, number % chunks)
        for phase in range(step.from_phase, step.to_phase + 1):
            if some and begin_phase(step, phase):
                function = step.examples_pass if phase == EXAMPLES else step.weights_pass
                if threads == 1:
                    call_pass(function, steps, step.activations, 0, 1)
                else:
                    passes += 1
                    lead(step.team, passes, function, steps, step.activations, threads)
    if not step.part:
        leave(steps)


@kernel
def begin_epoch(step):
    """Draw the epoch's order, keep the weights and biases as they are now, and clear the slots of sums."""
    if step.shuffle:
        shuffle(numbers_at(step.order, INT64), step.subset, step.m, step.order_seed)
    if step.remembered != 0:
        now, then = numbers_at(step.parameters, INT64), numbers_at(step.remembered, INT64)
        for n in range(step.parameter_words):
            then[n] = now[n]
    losses, squares = numbers_at(step.losses, FLOAT64), numbers_at(step.squares, FLOAT64)
    not_finite = numbers_at(step.not_finite, INT64)
    for tile in range(step.n_row_tiles):
        losses[tile] = 0.0
        not_finite[tile] = 0
    for tile in range(step.n_tiles):
        squares[tile] = 0.0


@kernel
def leave(steps):
    """Write what is known of the epoch so far where it outlasts the room."""
    step = record_at(steps, 0, STEP)
    losses, squares = numbers_at(step.losses, FLOAT64), numbers_at(step.squares, FLOAT64)
    not_finite = numbers_at(step.not_finite, INT64)
    step.loss_sum = step.square_sum = 0.0
    step.bad_input = 0
    for tile in range(step.n_row_tiles):
        step.loss_sum += losses[tile]
        step.bad_input += not_finite[tile]
    for tile in range(step.n_tiles):
        step.square_sum += squares[tile]
    if step.rule != STORE and step.rule != EVALUATE:
        step.phase = LOOK
        call_pass(step.weights_pass, steps, step.activations, 0, 1)


def run_epoch(steps, activations, member, members):
    """The chunks step.from_chunk <= number < step.to_chunk of an epoch, called once by each of the team's threads.

    A minibatch has ceil(batch_size / CHUNK_ROWS) chunks; an epoch is run in one call, or in several, one behind
    another. Sums of the objective are left in the slots of losses and squares.
    """
    team = record_at(steps, 0, STEP).team
    if members == 1:
        run_chunks(steps, members)
    elif is_leader(team):
        run_chunks(steps, members)
        dismiss(team)
    else:
        help_along(team, steps, activations, members)


@once
def compiled_epoch():
    """The epoch, compiled for networks of any dtype."""
    word = types.intp
    return compiling.pointer(types.void(word, word, word, word), run_epoch)


def run_together(table, unused, member, members):
    """Epochs of many networks, each by one thread alone; called once by each of some threads.

    table holds TOGETHER_WORDS numbers: how many epochs have been taken, on a cache line of its own; how many there
    are; the address of a pair of numbers for each, its step's address and its kind of room; and the address of the
    rooms' steps, kind by kind one for each thread. A thread takes the next epoch and moves it into its own room of the
    kind, so that no one else reads or writes what the two have.
    """
    numbers = numbers_at(table, INT64)
    epochs, rooms = numbers_at(numbers[EPOCHS], INT64), numbers_at(numbers[ROOMS], INT64)
    while True:
        n = atomic_add(table, 1)
        if n >= numbers[COUNT]:
            return
        steps = epochs[2 * n]
        step, room = numbers_at(steps, INT64), numbers_at(rooms[epochs[2 * n + 1] * members + member], INT64)
        for word in range(ROOM_WORDS):
            step[word] = room[word]
        run_chunks(steps, 1)


@once
def compiled_together():
    """The epochs of many networks, of any dtypes."""
    word = types.intp
    return compiling.pointer(types.void(word, word, word, word), run_together)
