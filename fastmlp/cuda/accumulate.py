"""U and V of a tile, and the update of W and b (eq. 10-13)."""

import functools
import math

from numba import cuda

from fastmlp.codes import ADAM, DESCENT, NESTEROV, STORE
from fastmlp.cuda.compiling import device, mathematics
from fastmlp.cuda.layout import Shape, bias_columns
from fastmlp.cuda.ptx import thread
from fastmlp.cuda.reduction import block_sum
from fastmlp.cuda.tile import product
from fastmlp.cuda.work import EXAMPLES, IN_MINIBATCH, MINIBATCH, OFFSET, PARITY


@functools.cache
def make_update(real: type):
    """The update of one weight or bias."""
    m = mathematics(real)
    regularized_gradient, decayed, descent, adam_step = m.regularized_gradient, m.decayed, m.descent, m.adam_step
    momentum_velocity, adam_mean, adam_square = m.momentum_velocity, m.adam_mean, m.adam_square
    zero = real(0)

    @device
    def update(work, chunk, p, u, shrink):
        """W <- W - alpha [U / m + l2 W] (eq. 12), b likewise without l2 (eq. 13), or another rule, for model[p].

        u is its sum over the examples, `shrink` what the gradient is multiplied by. Returns what W^2 before the update
        adds to the sum of the losses (eq. 5). The caller owns the entry and its moments.
        """
        step, model = work.step, work.model
        is_weight = p < step.weights_end
        scale = work.sums[step.rates + 2 * chunk[MINIBATCH]]
        l2 = step.l2 * (scale if step.l2_per_example else 1.0) if is_weight else 0.0
        rate = real(step.learning_rate)
        w = model[p]
        gradient = regularized_gradient(u, w, real(scale * shrink), real(l2 * shrink))
        new = w
        if is_weight and step.weight_decay != 0.0:
            new = decayed(w, real(step.learning_rate * step.weight_decay))
        if step.rule == DESCENT:
            new = descent(new, gradient, rate)
        elif step.rule == ADAM:
            beta_1, beta_2 = real(step.beta_1), real(step.beta_2)
            mean = adam_mean(model[step.first + p], gradient, beta_1)
            square = adam_square(model[step.second + p], gradient, beta_2)
            model[step.first + p], model[step.second + p] = mean, square
            step_size = real(work.sums[step.rates + 2 * chunk[MINIBATCH] + 1])
            new = adam_step(new, mean, square, step_size, real(step.epsilon))
        else:
            momentum = real(step.momentum)
            velocity = momentum_velocity(model[step.first + p], gradient, rate, momentum)
            model[step.first + p] = velocity
            if step.rule == NESTEROV:
                velocity = momentum_velocity(velocity, gradient, rate, momentum)
            new = new + velocity
        model[p] = new
        if not new - new == zero:
            work.sums[step.bad_weight] = 1.0  # whoever writes it, writes the same
        return 0.5 * l2 * chunk[IN_MINIBATCH] * float(w) * float(w)

    return update


@functools.cache
def make_accumulate(real: type, shape: Shape, resident: bool):
    """(accumulate, accumulate_bias) with tiles of a shape."""
    multiply, collect, entry, parts, entries = product(real, shape, False, False, resident)
    rows, columns, n_sums = shape.rows, shape.columns, shape.rows_each * shape.columns_each
    update = make_update(real)
    bias_width = bias_columns(shape)
    bias_lines = shape.threads // bias_width
    zero = real(0)

    @device
    def finish(work, operation, chunk, p, u, part):
        """Update model[p] with its sum u, or put the sum to its slice of the gradients; returns `update`'s answer."""
        step = work.step
        if operation.updates:
            return update(work, chunk, p, u, 1.0)
        place = step.gradients + part * step.parameters + p
        if chunk[OFFSET] > 0:
            u += work.room[place]
        work.room[place] = u
        return 0.0

    @device
    def accumulate(work, operation, chunk, row, column, part, task):
        """U_ij = sum_r a_i delta_j (eq. 10) for a tile of W and a slice of the examples; the update, if it is all.

        Reads a (examples, n_in) and delta (examples, n_out); writes W and its moments, or U's slice. The tile's
        entries are this block's, and the slot `task` of the sum of W^2.
        """
        step, layer, room = work.step, work.layers[operation.layer], work.room
        sums = cuda.local.array(n_sums, real)
        i0, j0, first = row * rows, column * columns, part * operation.slice_rows
        below = layer.a_in + (chunk[PARITY] * step.bottom_size if layer.bottom else 0)
        a = (room, below + first * layer.in_stride + i0, layer.in_stride, layer.n_in - i0)
        delta = (room, layer.d_out + first * layer.out_stride + j0, layer.out_stride, layer.n_out - j0)
        multiply(work.ring, sums, a, delta, max(0, min(operation.slice_rows, chunk[EXAMPLES] - first)))
        squares = 0.0
        for piece in range(parts):
            collect(work.ring, sums, piece)
            for n in range(entries):
                i, j, u = entry(work.ring, piece, n)
                i += i0
                j += j0
                if i < layer.n_in and j < layer.n_out:
                    squares += finish(work, operation, chunk, layer.weights + i * layer.out_stride + j, u, part)
        if operation.updates and step.l2 != 0.0:
            in_all = block_sum(work.partial, squares)
            if thread() == 0:
                work.sums[step.squares + task] += in_all

    @device
    def accumulate_bias(work, operation, chunk, column, part):
        """V_j = sum_r delta_j (eq. 11) for some j and a slice of the examples; the update, if it is all.

        Reads delta (examples, n_out); writes b and its moments, or V's slice. bias_lines threads share a j.
        """
        layer, room = work.layers[operation.layer], work.room
        line, j = thread() // bias_width, column * bias_width + thread() % bias_width
        first = part * operation.slice_rows
        last = min(first + operation.slice_rows, chunk[EXAMPLES])
        v = zero
        if j < layer.n_out:
            for r in range(first + line, last, bias_lines):
                v += room[layer.d_out + r * layer.out_stride + j]
        cuda.syncthreads()  # what was in the ring has been read
        work.ring[thread()] = v
        cuda.syncthreads()
        if line == 0 and j < layer.n_out:
            for k in range(1, bias_lines):
                v += work.ring[k * bias_width + thread()]
            finish(work, operation, chunk, layer.biases + j, v, part)

    return accumulate, accumulate_bias


@functools.cache
def make_whole(real: type, threads: int):
    """(measure, update_all): what is done when U and V are whole, four parameters a thread."""
    update = make_update(real)
    zero = real(0)

    @device
    def total(work, p):
        """The sum of the slices of U or V, in their order."""
        step, u = work.step, zero
        for part in range(step.slices):
            u += work.room[step.gradients + part * step.parameters + p]
        return u

    @device
    def measure(work, chunk, row):
        """The squared length of this task's part of U / m + l2 W and V / m, into its slot of norms."""
        step = work.step
        scale = work.sums[step.rates + 2 * chunk[MINIBATCH]]
        penalty = step.l2 * (scale if step.l2_per_example else 1.0)
        length = 0.0
        for n in range(4):
            p = (row * 4 + n) * threads + thread()
            if p < step.parameters:
                gradient = float(total(work, p)) * scale
                if p < step.weights_end:
                    gradient += penalty * float(work.model[p])
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
    def update_all(work, chunk, row):
        """Eq. 12 and 13 for this task's parameters; with the rule STORE their sums go to the first slice."""
        step = work.step
        shrink = shortening(work) if step.n_norms > 0 else 1.0
        squares = 0.0
        for n in range(4):
            p = (row * 4 + n) * threads + thread()
            if p < step.parameters:
                u = total(work, p)
                if step.rule == STORE:
                    work.room[step.gradients + p] = u
                else:
                    squares += update(work, chunk, p, u, shrink)
        if step.l2 != 0.0 and step.rule != STORE:
            squares = block_sum(work.partial, squares)
            if thread() == 0:
                work.sums[step.squares + row] += squares

    return measure, update_all
