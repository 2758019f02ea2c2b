"""U and V of a tile, and the update of W and b (eq. 10-13)."""

import functools
import math
from typing import Any, NamedTuple

from numba import cuda

from fastmlp.codes import ADAM, DESCENT, NESTEROV, STORE
from fastmlp.cuda.compiling import device, mathematics
from fastmlp.cuda.layout import TileShape, bias_columns
from fastmlp.cuda.operands import make_keep
from fastmlp.cuda.ptx import thread
from fastmlp.cuda.reduction import block_sum
from fastmlp.cuda.tensor_tile import product
from fastmlp.cuda.work import EXAMPLES, IN_MINIBATCH, MINIBATCH, OFFSET, PARITY


class Rule(NamedTuple):
    """What an update needs to know of its minibatch, in the network's precision."""

    kind: Any
    scale: Any  # of U and V
    l2: Any
    rate: Any
    decay: Any  # learning_rate * weight_decay
    momentum: Any
    beta_1: Any
    beta_2: Any
    step_size: Any
    epsilon: Any
    first: Any  # places of the moments in the model
    second: Any
    low: Any  # place of the copy of W in bfloat16


@functools.cache
def make_update(real: type, per_word: int = 1):
    """(open_rule, updated, update) of a weight or bias; per_word: numbers in a word of what is multiplied."""
    m = mathematics(real)
    regularized_gradient, decayed, descent, adam_step = m.regularized_gradient, m.decayed, m.descent, m.adam_step
    momentum_velocity, adam_mean, adam_square = m.momentum_velocity, m.adam_mean, m.adam_square
    zero, keep = real(0), make_keep(per_word)

    @device
    def open_rule(work, chunk, shrink):
        """The rule for a minibatch; `shrink` is what its gradient is multiplied by."""
        step = work.step
        scale = work.sums[step.rates + 2 * chunk[MINIBATCH]]
        return Rule(
            step.rule,
            real(scale * shrink),
            real(penalty(work, chunk) * shrink),
            real(step.learning_rate),
            real(step.learning_rate * step.weight_decay),
            real(step.momentum),
            real(step.beta_1),
            real(step.beta_2),
            real(work.sums[step.rates + 2 * chunk[MINIBATCH] + 1]),
            real(step.epsilon),
            step.first,
            step.second,
            step.low,
        )

    @device
    def updated(kind, rule, w, u, first, second, is_weight):
        """W <- W - alpha [U / m + l2 W] (eq. 12), b likewise without l2 (eq. 13), or another rule, for a number w.

        u is its sum over the examples, first and second its moments, as far as the rule has any. Returns the new ones.
        `kind` is the rule's; a constant leaves nothing of the others.
        """
        gradient = regularized_gradient(u, w, rule.scale, rule.l2 if is_weight else zero)
        new = decayed(w, rule.decay) if is_weight else w
        if kind == DESCENT:
            new = descent(new, gradient, rule.rate)
        elif kind == ADAM:
            first = adam_mean(first, gradient, rule.beta_1)
            second = adam_square(second, gradient, rule.beta_2)
            new = adam_step(new, first, second, rule.step_size, rule.epsilon)
        else:
            first = momentum_velocity(first, gradient, rule.rate, rule.momentum)
            velocity = first
            if kind == NESTEROV:
                velocity = momentum_velocity(velocity, gradient, rule.rate, rule.momentum)
            new = new + velocity
        return new, first, second

    @device
    def update(rule, model, p, u, is_weight):
        """The update of model[p] and its moments; u is its sum over the examples.

        The caller owns the entry and its moments. Returns the old W and whether the new one is finite.
        """
        w, first, second = model[p], zero, zero
        if rule.kind != DESCENT:
            first = model[rule.first + p]
            if rule.kind == ADAM:
                second = model[rule.second + p]
        new, first, second = updated(rule.kind, rule, w, u, first, second, is_weight)
        if rule.kind != DESCENT:
            model[rule.first + p] = first
            if rule.kind == ADAM:
                model[rule.second + p] = second
        model[p] = new
        keep(model, rule.low, p, new, is_weight)
        return w, new - new == zero

    return open_rule, updated, update


@device
def penalty(work, chunk):
    """The l2 of eq. 12 for a minibatch."""
    step = work.step
    return step.l2 * (work.sums[step.rates + 2 * chunk[MINIBATCH]] if step.l2_per_example else 1.0)


@device
def note(work, chunk, squares, slot, finite):
    """Add eq. 5 of the weights that a block has updated to their slot, and note whether all are finite."""
    step = work.step
    if not finite:
        work.sums[step.bad_weight] = 1.0  # whoever writes it, writes the same
    if step.l2 != 0.0:
        in_all = block_sum(work.partial, squares)
        if thread() == 0:
            work.sums[step.squares + slot] += 0.5 * penalty(work, chunk) * chunk[IN_MINIBATCH] * in_all


@functools.cache
def make_accumulate(real: type, shape: TileShape, resident: bool):
    """(accumulate, accumulate_bias) with tiles of a shape."""
    tile = product(real, shape, False, False, resident)
    multiply, collect, entry, n_sums, parts, part_rows, width, line_step = tile
    rows, columns, per_word = shape.rows, shape.columns, shape.per_word
    row_words, column_words = rows // per_word, columns // per_word
    open_rule, _, update = make_update(real, per_word)
    bias_width = bias_columns(shape)
    bias_lines = shape.threads // bias_width
    zero = real(0)

    @device
    def accumulate(work, operation, chunk, row, column, part, task):
        """U_ij = sum_r a_i delta_j (eq. 10) for a tile of W and a slice of the examples; the update, if it is all.

        Reads a (examples, n_in) and delta (examples, n_out), in bfloat16 as such; writes W and its moments, or U's
        slice. The tile's entries are this block's, and the slot `task` of the sum of W^2.
        """
        step, layer, room = work.step, work.layers[operation.layer], work.room
        sums = cuda.local.array(n_sums, real)
        i0, j0, first = row * rows, column * columns, part * operation.slice_rows
        below = layer.a_in_read + (chunk[PARITY] * step.bottom_size if layer.bottom else 0)
        a = (room, below + first * layer.in_words + row * row_words, layer.in_words, layer.n_in - i0)
        errors = layer.d_out_read + first * layer.out_words + column * column_words
        delta = (room, errors, layer.out_words, layer.n_out - j0)
        multiply(work.ring, sums, a, delta, max(0, min(operation.slice_rows, chunk[EXAMPLES] - first)))
        rule, updates, more = open_rule(work, chunk, 1.0), operation.updates, chunk[OFFSET] > 0
        n_in, n_out, weights, stride = layer.n_in, layer.n_out, layer.weights, layer.out_stride
        slice_at = step.gradients + part * step.parameters
        squares, finite, t = 0.0, True, thread()
        for piece in range(parts):
            collect(work.ring, sums, piece)
            for c in range(t % width, columns, width):
                for line in range(t // width, part_rows, line_step):
                    i, j = i0 + piece * part_rows + line, j0 + c
                    if i < n_in and j < n_out:
                        u = entry(work.ring, line, c)
                        p = weights + i * stride + j
                        if updates:
                            w, good = update(rule, work.model, p, u, True)
                            squares += float(w) * float(w)
                            finite = finite and good
                        else:
                            room[slice_at + p] = room[slice_at + p] + u if more else u
        if updates:
            note(work, chunk, squares, task, finite)

    @device
    def accumulate_bias(work, operation, chunk, column, part):
        """V_j = sum_r delta_j (eq. 11) for some j and a slice of the examples; the update, if it is all.

        Reads delta (examples, n_out); writes b and its moments, or V's slice. bias_lines threads share a j.
        """
        step, layer, room = work.step, work.layers[operation.layer], work.room
        line, c = thread() // bias_width, thread() % bias_width
        j, stride, place = column * bias_width + c, layer.out_stride, layer.d_out
        first = part * operation.slice_rows
        last = min(first + operation.slice_rows, chunk[EXAMPLES])
        v = zero
        if j < layer.n_out:
            for r in range(first + line, last, bias_lines):
                v += room[place + r * stride + j]
        cuda.syncthreads()  # what was in the ring has been read
        work.ring[thread()] = v
        cuda.syncthreads()
        if line == 0 and j < layer.n_out:
            for k in range(1, bias_lines):
                v += work.ring[k * bias_width + c]
            p = layer.biases + j
            if operation.updates:
                _, finite = update(open_rule(work, chunk, 1.0), work.model, p, v, False)
                if not finite:
                    work.sums[step.bad_weight] = 1.0
            else:
                place = step.gradients + part * step.parameters + p
                room[place] = room[place] + v if chunk[OFFSET] > 0 else v

    return accumulate, accumulate_bias


@functools.cache
def make_whole(real: type, threads: int, per_word: int = 1):
    """(measure, update_all): what is done when U and V are whole, operation.task_rows parameters a thread."""
    open_rule, _, update = make_update(real, per_word)
    zero = real(0)

    @device
    def total(work, p):
        """The sum of the slices of U or V, in their order."""
        step, u = work.step, zero
        for part in range(step.slices):
            u += work.room[step.gradients + part * step.parameters + p]
        return u

    @device
    def measure(work, operation, chunk, row):
        """The squared length of this task's part of U / m + l2 W and V / m, into its slot of norms."""
        step = work.step
        scale = work.sums[step.rates + 2 * chunk[MINIBATCH]]
        l2, length = penalty(work, chunk), 0.0
        for n in range(operation.task_rows):
            p = (row * operation.task_rows + n) * threads + thread()
            if p < step.parameters:
                gradient = float(total(work, p)) * scale
                if p < step.weights_end:
                    gradient += l2 * float(work.model[p])
                length += gradient * gradient
        length = block_sum(work.partial, length)
        if thread() == 0:
            work.sums[step.norms + row] = length

    @device
    def shortening(work):
        """What makes the gradient no longer than step.max_norm; every block forms the same sum of all tasks' parts."""
        step = work.step
        length = 0.0
        for n in range(thread(), step.n_norms, threads):
            length += work.sums[step.norms + n]
        length = math.sqrt(block_sum(work.partial, length))
        return step.max_norm / length if length > step.max_norm else 1.0

    @device
    def update_all(work, operation, chunk, row):
        """Eq. 12 and 13 for this task's parameters; with the rule STORE their sums go to the first slice."""
        step = work.step
        shrink = shortening(work) if step.n_norms > 0 else 1.0
        rule, squares, finite = open_rule(work, chunk, shrink), 0.0, True
        for n in range(operation.task_rows):
            p = (row * operation.task_rows + n) * threads + thread()
            if p < step.parameters:
                u = total(work, p)
                if step.rule == STORE:
                    work.room[step.gradients + p] = u
                else:
                    is_weight = p < step.weights_end
                    w, good = update(rule, work.model, p, u, is_weight)
                    squares += float(w) * float(w) if is_weight else 0.0
                    finite = finite and good
        if step.rule != STORE:
            note(work, chunk, squares, row, finite)

    return measure, update_all
