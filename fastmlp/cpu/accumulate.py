"""U and V, and the update of W and b (eq. 10-13)."""

from fastmlp.cpu.compiling import kernel
from fastmlp.cpu.layout import ADAM, DESCENT, LAYER, MEASURE, NESTEROV, STORE, SUM, UPDATE
from fastmlp.cpu.vector import (
    broadcast,
    lane_sum,
    lanes,
    load,
    load_tile,
    narrow_row,
    narrow_tile,
    outer_product,
    panel_width,
    plus_row,
    plus_tile,
    record_at,
    store,
    store_tile,
    store_transposed,
    tile_rows,
    tile_vectors,
    wide_row,
    wide_tile,
)
from fastmlp.formulas import (
    adam_mean,
    adam_square,
    adam_step,
    decayed,
    descent,
    momentum_velocity,
    multiply_add,
    regularized_gradient,
)


@kernel
def accumulate(step, work, share, shares):
    """One pass over a share of the weights: what the pass does is step.phase, see visit_panel.

    The tiles of all weights, in order, are dealt to the shares in equal parts by cost; a tile, its row of the bias
    and its slots of work.squares and work.norms belong to one share. Every sum runs over the examples in order, so
    the bits do not depend on the number of shares.
    """
    P, V = panel_width(work.deltas), lanes(work.deltas)
    wide, narrow = wide_tile(work.deltas), narrow_tile(work.deltas)
    total = 0
    for l in range(step.n_layers):
        layer = record_at(step.layers, l, LAYER)
        for p in range(layer.out_panels):
            each = 1 if layer.n_out - p * P <= V else tile_vectors(wide)
            total += each * (layer.rows // tile_rows(wide))
    begin, end = total * share // shares, total * (share + 1) // shares
    done = 0
    for l in range(step.n_layers):
        layer = record_at(step.layers, l, LAYER)
        tiles = layer.rows // tile_rows(wide)
        for p in range(layer.out_panels):
            each = 1 if layer.n_out - p * P <= V else tile_vectors(wide)
            first = min(max((begin - done + each - 1) // each, 0), tiles)
            last = min(max((end - done + each - 1) // each, 0), tiles)
            done += each * tiles
            if first < last:
                if each == 1:
                    visit_panel(narrow, narrow_row(work.deltas), layer, p, first, last, step, work, share)
                else:
                    visit_panel(wide, wide_row(work.deltas), layer, p, first, last, step, work, share)


@kernel
def visit_panel(zero, zero_row, layer, p, first, last, step, work, share):
    """The tiles first <= tile < last of panel p of W and, with tile 0, the panel's row of b.

    SUM     U_ij += sum_r a_i delta_j, V_j += sum_r delta_j (eq. 10-11) over the chunk's examples. After a
            minibatch's last chunk W and b are updated (eq. 12-13) while the tile of U is in the L1 cache, unless
            U is wanted whole. Reads work.activations and work.deltas, (examples, n) in panels.
    MEASURE the squared length of the gradient, U / m + l2 W and V / m, to work.norms.
    UPDATE  W and b from work.gradients.

    SUM and UPDATE write work.parameters, work.transposed and the optimizer's state, or work.gradients.
    Loop order: the panel of delta stays in L1 or L2 while the columns of a stream by.
    """
    A, D, U = work.activations, work.deltas, work.gradients
    P = panel_width(A)
    height, vectors = tile_rows(zero), tile_vectors(zero)
    d = layer.a_out + p * layer.stride
    examples = step.examples
    scratch = share * height * P
    to_memory = step.rule == STORE or step.clip or not step.last_chunk
    if first == 0:
        b = layer.biases + p * P
        slot = layer.tile + p * (layer.rows // height + 1) + layer.rows // height
        if step.phase == MEASURE:
            work.norms[slot] = squared_length(step, work, b, U, b, vectors, 1, 0.0)
        elif step.phase == UPDATE:
            update(step, work, b, U, b, vectors, 1, 0.0, 0.0)
        else:
            row = zero_row
            for r in range(examples):
                row = plus_row(row, D, d + r * P)
            if not step.first_chunk:
                row = plus_tile(row, U, b)
            if to_memory:
                store_tile(row, U, b)
            else:
                store_tile(row, work.scratch, scratch)
                update(step, work, b, work.scratch, scratch, vectors, 1, 0.0, 0.0)
    for tile in range(first, last):
        i = tile * height
        w = layer.weights + p * layer.rows * P + i * P
        slot = layer.tile + p * (layer.rows // height + 1) + tile
        rows = min(height, layer.n_in - i)
        if step.phase == MEASURE:
            work.norms[slot] = squared_length(step, work, w, U, w, vectors, rows, step.penalty)
        elif step.phase == UPDATE:
            work.squares[slot] += update(step, work, w, U, w, vectors, rows, step.penalty, step.decay)
        else:
            a = layer.a_in + i // P * layer.stride + i % P
            acc = zero
            for r in range(examples):
                acc = outer_product(acc, A, a + r * P, 1, D, d + r * P)
            if not step.first_chunk:
                acc = plus_tile(acc, U, w)
            if to_memory:
                store_tile(acc, U, w)
            else:
                store_tile(acc, work.scratch, scratch)
                squares = update(step, work, w, work.scratch, scratch, vectors, rows, step.penalty, step.decay)
                work.squares[slot] += squares
        if layer.transposed >= 0 and (step.phase == UPDATE or (step.phase == SUM and not to_memory)):
            transpose(zero, layer, p, i, work)


@kernel
def transpose(zero, layer, p, i, work):
    """Copy the tile of W at row i of panel p into the transposed W that eq. 9 reads."""
    P = panel_width(work.parameters)
    tile = load_tile(zero, work.parameters, layer.weights + p * layer.rows * P + i * P)
    store_transposed(tile, work.transposed, layer.transposed + i // P * layer.columns * P + p * P * P + i % P)


@kernel
def update(step, work, w, U, u, vectors, rows, l2, decay):
    """W <- W - alpha [U / m + l2 W] (eq. 12) or another rule, for `rows` rows of `vectors` vectors at W[w] and U[u].

    Returns the sum of the squares of W before the update times the minibatch's examples; zero when l2 is zero.
    """
    W, first, second = work.parameters, work.first, work.second
    rule, scale, learning_rate, momentum = step.rule, step.scale, step.learning_rate, step.momentum
    beta_1, beta_2, step_size, epsilon = step.beta_1, step.beta_2, step.step_size, step.epsilon
    P, V = panel_width(W), lanes(W)
    squares = broadcast(W, 0.0)
    for r in range(0, rows * P, P):
        for k in range(r, r + vectors * V, V):
            x = load(W, w + k)
            squares = multiply_add(x, x, squares)
            g = regularized_gradient(load(U, u + k), x, scale, l2)
            x = decayed(x, decay)
            if rule == DESCENT:
                x = descent(x, g, learning_rate)
            elif rule == ADAM:
                mean = adam_mean(load(first, w + k), g, beta_1)
                square = adam_square(load(second, w + k), g, beta_2)
                store(first, w + k, mean)
                store(second, w + k, square)
                x = adam_step(x, mean, square, step_size, epsilon)
            else:
                velocity = momentum_velocity(load(first, w + k), g, learning_rate, momentum)
                store(first, w + k, velocity)
                if rule == NESTEROV:
                    velocity = momentum_velocity(velocity, g, learning_rate, momentum)
                x = x + velocity
            store(W, w + k, x)
    if l2 == 0.0:
        return 0.0
    return lane_sum(squares) * step.examples_in_batch


@kernel
def squared_length(step, work, w, U, u, vectors, rows, l2):
    """The sum of the squares of the gradient U / m + l2 W at W[w] and U[u]."""
    P, V = panel_width(U), lanes(U)
    scale = step.scale
    squares = 0.0
    for r in range(0, rows * P, P):
        for k in range(r, r + vectors * V, V):
            g = regularized_gradient(load(U, u + k), load(work.parameters, w + k), scale, l2)
            squares += lane_sum(g * g)
    return squares
