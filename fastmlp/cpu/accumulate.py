"""U and V, and the update of W and b (eq. 10-13)."""

from fastmlp.codes import ADAM, DESCENT, NESTEROV, STORE
from fastmlp.cpu.compiling import kernel
from fastmlp.cpu.layout import LAYER, LOOK, MEASURE, STEP, SUM
from fastmlp.cpu.operands import copy_weights, open_operands
from fastmlp.cpu.vector import (
    begin_sums,
    broadcast,
    end_sums,
    lane_sum,
    lanes,
    load,
    narrow_row,
    narrow_tile,
    outer_product,
    panel_width,
    plus_row,
    plus_tile,
    prefetch_to_write,
    record_at,
    rows_of,
    step_words,
    store,
    store_tile,
    tall_tile,
    tile_rows,
    tile_vectors,
    wide_row,
    wide_tile,
    word_numbers,
)
from fastmlp.cpu.work import open_work
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

# With fewer examples than this a tile is summed sooner than a cache line arrives.
PREFETCH_EXAMPLES = 64


@kernel
def accumulate(steps, A, F, share, shares):
    """One pass over a share of the weights: step.phase says what it does (see sum_panel, update_panel, all_finite),
    step.bottom and step.top to which layers. F is of the operands' kind.

    The tiles of each layer, in order, are dealt to the shares in equal parts by cost, tall tiles whole: the same to the
    same share in every minibatch, so that what a thread reads stays in its cache. A tile, its row of the bias and its
    slots of work.squares and work.norms belong to one share. Every sum runs over the examples in order, so the bits do
    not depend on the number of shares.
    """
    step = record_at(steps, 0, STEP)
    P, V, operands = panel_width(A), lanes(A), open_operands(step, F, step.examples)
    wide, narrow = wide_tile(A), narrow_tile(A)
    together = tile_rows(tall_tile(wide, F)) // tile_rows(wide)
    if step.phase == LOOK:
        step.finite = all_finite(step, A)
        return
    for l in range(step.bottom, step.top):
        layer = record_at(step.layers, l, LAYER)
        tiles = layer.rows // tile_rows(wide)
        total = 0
        for p in range(layer.out_panels):
            total += tiles * (1 if layer.n_out - p * P <= V else tile_vectors(wide))
        begin, end = total * share // shares, total * (share + 1) // shares
        done = 0
        for p in range(layer.out_panels):
            each = 1 if layer.n_out - p * P <= V else tile_vectors(wide)
            group = each * together
            first = min(max((begin - done + group - 1) // group * together, 0), tiles)
            last = min(max((end - done + group - 1) // group * together, 0), tiles)
            done += each * tiles
            if first == last:
                continue
            if step.phase != SUM:
                update_panel(layer, p, each, first, last, step, A, operands)
            elif each == 1:
                sum_panel(narrow, narrow_row(A), layer, p, first, last, step, A, operands, share)
            else:
                sum_panel(wide, wide_row(A), layer, p, first, last, step, A, operands, share)


@kernel
def sum_panel(zero, zero_row, layer, p, first, last, step, A, operands, share):
    """U_ij += sum_r a_i delta_j, V_j += sum_r delta_j (eq. 10-11) for the tiles first <= tile < last of panel p of W
    and, with tile 0, the panel's row of b, over the chunk's examples r.

    Reads activations and deltas as operands, for V the deltas themselves, (examples, n) in panels. After a minibatch's
    last chunk W and b are updated (eq. 12-13) while the tile of U is in the L1 cache; before it, and where U is wanted
    whole or summed with that of other machines, the sums go to work.gradients. Loop order: the panel of delta stays in
    L1 or L2 while the columns of a stream by.
    """
    work = open_work(step, A)
    P = panel_width(A)
    tall = tall_tile(zero, operands.weights)
    keep = step.rule == STORE or step.clip or step.shared or not step.last_chunk
    U = work.gradients if keep else work.scratch
    u = share * tile_rows(zero) * P
    if first == 0:
        b, d = layer.biases + p * P, layer.a_out + p * layer.stride
        row = zero_row
        for r in range(step.examples):
            row = plus_row(row, work.deltas, d + r * P)
        if not step.first_chunk:
            row = plus_tile(row, work.gradients, b)
        store_tile(row, U, b if keep else u)
        if not keep:
            update_bias(layer, p, tile_vectors(zero), step, A, U, u)
    together = tile_rows(tall) // tile_rows(zero)
    middle = first if together == 1 else last // together * together
    sum_tiles(tall, layer, p, first, middle, step, A, operands, keep, U, u)
    sum_tiles(zero, layer, p, middle, last, step, A, operands, keep, U, u)


@kernel
def sum_tiles(zero, layer, p, first, last, step, A, operands, keep, U, u):
    """Eq. 10 for the tiles first <= tile < last of panel p of W, as many together as `zero` is tall.

    Reads and writes what `sum_panel` does, with U at U[u], or, if it is kept, where its W is; without that eq. 12
    follows. The tiles are the caller's. A step of the sum over the examples is as in forward_tile.
    """
    P, K, vectors = panel_width(A), word_numbers(operands.weights), tile_vectors(zero)
    height, words = tile_rows(wide_tile(A)), step_words(zero, operands.weights)
    d = (layer.a_out + p * layer.stride) // K
    for tile in range(first, last, tile_rows(zero) // height):
        i = tile * height
        a = (layer.a_in + i // P * layer.stride) // K + i % P * words
        w = layer.weights + p * layer.rows * P + i * P
        if step.examples >= PREFETCH_EXAMPLES and not keep:
            prefetch_tile(layer, p, vectors, i, tile_rows(zero), step, A, operands)
        acc = begin_sums(zero, operands.weights)
        for r in range(0, (step.examples + K - 1) // K, words):
            acc = outer_product(acc, operands.a.pairs, a + r * P, words, operands.d.pairs, d + r * P)
        acc = end_sums(acc)
        for n in range(tile_rows(zero) // height):
            rows = rows_of(acc, n * height)
            if not step.first_chunk:
                rows = plus_tile(rows, open_work(step, A).gradients, w + n * height * P)
            if keep:
                store_tile(rows, U, w + n * height * P)
            else:
                store_tile(rows, U, u)
                update_tile(layer, p, vectors, tile + n, step, A, operands, U, u)


@kernel
def update_panel(layer, p, vectors, first, last, step, A, operands):
    """What is left to do for the tiles first <= tile < last of panel p when work.gradients is whole.

    MEASURE puts the squared length of U / m + l2 W and V / m into work.norms; UPDATE is eq. 12-13.
    """
    work = open_work(step, A)
    P, U = panel_width(A), work.gradients
    height = tile_rows(wide_tile(U))
    b = layer.biases + p * P
    norms = layer.tile + p * (layer.rows // height + 1)
    if first == 0:
        if step.phase == MEASURE:
            work.norms[norms + layer.rows // height] = squared_length(step, A, b, vectors, tile_rows(wide_row(U)), 0.0)
        else:
            update_bias(layer, p, vectors, step, A, U, b)
    for tile in range(first, last):
        w = layer.weights + (p * layer.rows + tile * height) * P
        if step.phase == MEASURE:
            rows = min(height, layer.n_in - tile * height)
            work.norms[norms + tile] = squared_length(step, A, w, vectors, rows, step.penalty)
        else:
            update_tile(layer, p, vectors, tile, step, A, operands, U, w)


@kernel
def prefetch_tile(layer, p, vectors, i, rows, step, A, operands):
    """Ask for what the update of so many rows of W from row i of panel p on needs: them, moments, operands' places."""
    work = open_work(step, A)
    P, V, K = panel_width(A), lanes(A), word_numbers(operands.weights)
    w = layer.weights + (p * layer.rows + i) * P
    for r in range(w, w + rows * P, P):
        for v in range(vectors):
            prefetch_to_write(work.parameters, r + v * V)
            if step.rule != DESCENT:
                prefetch_to_write(work.first, r + v * V)
                if step.rule == ADAM:
                    prefetch_to_write(work.second, r + v * V)
    if K > 1:
        for r in range(w // K, (w + rows * P) // K, V):
            prefetch_to_write(operands.weights, r)
    if layer.transposed >= 0:
        t = (layer.transposed + (i // P * layer.columns + p * P) * P) // K + i % P
        for j in range(t, t + vectors * V * P // K, P):
            for n in range(j, j + rows, V):
                prefetch_to_write(operands.transposed, n)


@kernel
def update_bias(layer, p, vectors, step, A, U, u):
    """Eq. 13 for panel p of b, with V at U[u]."""
    update(step, A, layer.biases + p * panel_width(U), U, u, vectors, tile_rows(wide_row(U)), 0.0, 0.0)


@kernel
def update_tile(layer, p, vectors, tile, step, A, operands, U, u):
    """Eq. 12 for a tile of panel p of W, with U at U[u]; copies it into the operands that eq. 7 and 9 read."""
    work = open_work(step, A)
    P = panel_width(A)
    height = tile_rows(wide_tile(A))
    i = tile * height
    w = layer.weights + (p * layer.rows + i) * P
    slot = layer.tile + p * (layer.rows // height + 1) + tile
    rows = min(height, layer.n_in - i)
    work.squares[slot] += update(step, A, w, U, u, vectors, rows, step.penalty, step.decay)
    copy_weights(layer, operands, work.parameters, w, i, p)


@kernel
def update(step, A, w, U, u, vectors, rows, l2, decay):
    """W <- W - alpha [U / m + l2 W] (eq. 12) or another rule, for `rows` rows of `vectors` vectors at W[w] and U[u].

    Returns what W^2 before the update adds to the sum of the losses (eq. 5); zero when l2 is zero.
    """
    work = open_work(step, A)
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
    return lane_sum(squares) * step.penalty_weight


@kernel
def squared_length(step, A, w, vectors, rows, l2):
    """The sum of the squares of the gradient U / m + l2 W for `rows` rows of `vectors` vectors at W[w] and U[w]."""
    work = open_work(step, A)
    P, V = panel_width(A), lanes(A)
    scale = step.scale
    squares = 0.0
    for r in range(w, w + rows * P, P):
        for k in range(r, r + vectors * V, V):
            g = regularized_gradient(load(work.gradients, k), load(work.parameters, k), scale, l2)
            squares += lane_sum(g * g)
    return squares


@kernel
def all_finite(step, A):
    """Whether all weights and biases are finite: x - x is zero then, and NaN otherwise."""
    W = open_work(step, A).parameters
    total = broadcast(A, 0.0)
    for w in range(0, step.n_parameters, lanes(A)):
        x = load(W, w)
        total = total + (x - x)
    return lane_sum(total) == 0.0
