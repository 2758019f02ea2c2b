"""delta of the output layer and of the hidden layers for a block of examples (eq. 8-9)."""

import math

from fastmlp.codes import ABSOLUTE_ERROR, HUBER, LOG_LOSS, POISSON, SOFTMAX, SUPPLIED_LOSS
from fastmlp.cpu.activation import activate, keep_slopes, multiply_derivative
from fastmlp.cpu.compiling import kernel
from fastmlp.cpu.forward import block_numbers, end_of_panel, end_of_tall, prefetch_next
from fastmlp.cpu.operands import round_panel
from fastmlp.cpu.vector import (
    TILE_ROWS,
    address,
    begin_sums,
    broadcast,
    call_map,
    end_sums,
    lane_max,
    lane_sum,
    lanes,
    load,
    narrow_tile,
    outer_product,
    panel_width,
    plus_tile,
    rows_of,
    step_words,
    store,
    store_tile,
    tall_tile,
    tile_rows,
    tile_vectors,
    wide_tile,
    word_numbers,
)
from fastmlp.formulas import (
    absolute_error,
    absolute_error_sign,
    binary_log_loss,
    clipped,
    exp_negative,
    exponential,
    huber_error,
    huber_loss,
    logistic,
    output_error,
    poisson_loss,
    squared_error,
    where,
)


@kernel
def output_delta(layer, step, A, D, work, r, rows):
    """delta^(L)_j = (a_j - y_j) f'(z_j) (eq. 8) for `rows` rows from r on; returns the sum of their losses (eq. 4).

    A holds the output layer's z at layer.a_out, work.targets y, (rows, n_out) in panels; work.row_weights is each
    example's weight, zero for padding, and work.mask is one where a column is an output, zero where it is padding.
    Writes D; A becomes a unless the loss is one of z. With log loss, and Poisson's with e^z, f' cancels: delta = a - y.
    """
    P, V = panel_width(A), lanes(A)
    loss, lowest, highest = step.loss, step.lowest_loss, step.highest_loss
    targets, row_weights, mask = work.targets, work.row_weights, work.mask
    total = broadcast(A, 0.0)
    if layer.activation == SOFTMAX:
        return softmax_delta(layer, step, A, D, work, r, rows)
    of_z = loss == LOG_LOSS or loss == POISSON
    for p in range(layer.out_panels):
        a = layer.a_out + p * layer.stride + r * P
        t = p * layer.stride + r * P
        vectors = (min(P, layer.n_out - p * P) + V - 1) // V
        if not of_z:
            if step.slopes != 0:
                keep_slopes(layer, layer.activation, A, work.slopes, a, vectors, rows)
            activate(layer, layer.activation, A, a, vectors, rows)
        if loss == SUPPLIED_LOSS:  # the targets, which nobody reads behind, make room for the losses
            call_map(step.loss_df, address(A, a), address(targets, t), address(D, a), vectors, rows)
            call_map(step.loss_f, address(A, a), address(targets, t), address(targets, t), vectors, rows)
        for i in range(rows):
            weight = row_weights[r + i]
            for v in range(0, vectors * V, V):
                x, y = load(A, a + i * P + v), load(targets, t + i * P + v)
                factor = load(mask, p * P + v) * weight
                if loss == LOG_LOSS:
                    each = clipped(binary_log_loss(x, y), lowest, highest)
                    error = output_error(logistic(x), y)
                elif loss == POISSON:
                    each = poisson_loss(x, y)
                    error = output_error(exponential(x), y)
                elif loss == HUBER:
                    each = huber_loss(x, y)
                    error = huber_error(x, y)
                elif loss == ABSOLUTE_ERROR:
                    each = absolute_error(x, y)
                    error = absolute_error_sign(x, y)
                elif loss == SUPPLIED_LOSS:
                    each, error = y, load(D, a + i * P + v)
                else:
                    each = squared_error(x, y)
                    error = output_error(x, y)
                # padding, and what has no weight, may be no number at all with what users supply
                counts = abs(factor) > 0.0
                total = total + where(counts, each * factor, 0.0)
                store(D, a + i * P + v, where(counts, error * factor, 0.0))
        if not of_z:
            multiply_derivative(layer.activation, A, D, work.slopes, a, vectors, rows, 1.0)
    return lane_sum(total)


@kernel
def softmax_delta(layer, step, A, D, work, r, rows):
    """delta = a - y for softmax with cross-entropy, and the sum of ln(sum_j e^z_j) - sum_j y_j z_j over the rows."""
    P, V = panel_width(A), lanes(A)
    targets, row_weights, mask = work.targets, work.row_weights, work.mask
    loss = 0.0
    for i in range(r, r + rows):
        highest = broadcast(A, -math.inf)
        for p in range(layer.out_panels):
            a = layer.a_out + p * layer.stride + i * P
            for v in range(0, min(P, layer.n_out - p * P), V):
                z = where(load(mask, p * P + v) > 0.0, load(A, a + v), -math.inf)
                highest = where(z > highest, z, highest)
        top = lane_max(highest)
        powers, agreement = broadcast(A, 0.0), broadcast(A, 0.0)
        for p in range(layer.out_panels):
            a = layer.a_out + p * layer.stride + i * P
            t = p * layer.stride + i * P
            for v in range(0, min(P, layer.n_out - p * P), V):
                z = load(A, a + v) - top
                power = exp_negative(where(z < 0.0, z, 0.0)) * load(mask, p * P + v)
                powers = powers + power
                agreement = agreement + load(targets, t + v) * z
                store(D, a + v, power)
        total = lane_sum(powers)
        surprise = math.log(total) - lane_sum(agreement)
        if surprise < step.lowest_loss:
            surprise = step.lowest_loss
        elif surprise > step.highest_loss:
            surprise = step.highest_loss
        if row_weights[i] != 0.0:
            loss += surprise * row_weights[i]
        for p in range(layer.out_panels):
            a = layer.a_out + p * layer.stride + i * P
            t = p * layer.stride + i * P
            for v in range(0, min(P, layer.n_out - p * P), V):
                error = output_error(load(D, a + v) / total, load(targets, t + v))
                store(D, a + v, error * row_weights[i])
    return loss


@kernel
def backward(layer, below, operands, A, D, S, begin, end, unscale):
    """delta_i = (sum_j W_ji delta_j) f'(z_i) (eq. 9) for the examples begin <= r < end, whole tiles of them.

    layer is W's, `below` the one whose delta is sought. D holds delta_j at layer.a_out, (rows, n_out) in panels;
    delta_i is written at below.a_out, (rows, n_in) in panels, and as an operand. Reads A, the slopes S of a supplied f,
    and the operands delta_j and W transposed, (n_out, n_in) in panels.
    The caller owns the rows begin..end, and no one else writes them.
    """
    P, V = panel_width(A), lanes(A)
    for p in range(layer.in_panels):
        if layer.n_in - p * P <= V:
            backward_panel(narrow_tile(A), layer, below.activation, p, operands, A, D, S, begin, end, unscale)
        else:
            backward_panel(wide_tile(A), layer, below.activation, p, operands, A, D, S, begin, end, unscale)


@kernel
def backward_panel(zero, layer, activation, p, operands, A, D, S, begin, end, unscale):
    """Eq. 9 for the sources i of panel p; the loops are forward_panel's."""
    P, K, transposed = panel_width(A), word_numbers(operands.transposed), operands.transposed
    tall = tall_tile(zero, transposed)
    middle = end_of_tall(tall, zero, begin, end)
    W, block = layer.transposed + p * layer.columns * P, block_numbers(transposed, P)
    for first in range(0, layer.n_out, block):
        last = min(first + block, layer.n_out)
        for r in range(begin, middle, tile_rows(tall)):
            prefetch_next(tall, transposed, (W + last * P) // K, (last - first) // K * P, r - begin, end - begin)
            backward_tile(tall, layer, p, operands, D, first, r)
        for r in range(middle, end, tile_rows(zero)):
            prefetch_next(zero, transposed, (W + last * P) // K, (last - first) // K * P, r - begin, end - begin)
            backward_tile(zero, layer, p, operands, D, first, r)
    delta = layer.a_in + p * layer.stride
    multiply_derivative(activation, A, D, S, delta + begin * P, tile_vectors(zero), end - begin, unscale)
    if operands.whole:
        round_panel(D, operands.d, delta, layer.n_in - p * P, begin, end)


@kernel
def backward_tile(zero, layer, p, operands, D, first, r):
    """Eq. 9's sum for the examples of a tile, from r on, and a block of it, from destination j = first on.

    Reads operands and, behind the first block, the sum so far; writes the sum to D. The rows are the caller's.
    """
    P, K, transposed = panel_width(D), word_numbers(operands.transposed), operands.transposed
    W, delta = (layer.transposed + p * layer.columns * P) // K, layer.a_in + p * layer.stride + r * P
    last = min(first + block_numbers(transposed, P), layer.n_out)
    acc = begin_sums(zero, transposed)
    for q in range(first // P, (last + P - 1) // P):
        d = (layer.a_out + q * layer.stride + r * P - q * P) // K
        for j in range(q * (P // K), end_of_panel(zero, transposed, P, q, last), step_words(zero, transposed)):
            acc = outer_product(acc, operands.d.rows, d + j, P // K, transposed, W + j * P)
    acc = end_sums(acc)
    for n in range(0, tile_rows(zero), TILE_ROWS):
        rows = rows_of(acc, n)
        if first > 0:
            rows = plus_tile(rows, D, delta + n * P)
        store_tile(rows, D, delta + n * P)
