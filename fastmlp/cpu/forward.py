"""z and a of a layer for a block of examples (eq. 7)."""

from fastmlp.cpu.activation import activate, keep_slopes
from fastmlp.cpu.compiling import kernel
from fastmlp.cpu.operands import round_panel
from fastmlp.cpu.vector import (
    TILE_ROWS,
    address,
    begin_sums,
    end_sums,
    lanes,
    narrow_tile,
    outer_product,
    panel_width,
    plus_row,
    plus_tile,
    prefetch_to_read,
    rows_of,
    step_words,
    store_tile,
    tall_tile,
    tile_rows,
    tile_vectors,
    wide_tile,
    word_numbers,
)

# Sources i of one block of the sum over i: a block of a panel of W (SUM_PANELS * P rows) stays in the L1 cache while
# every example passes by; a sum of block sums is also more accurate than one long sum.
SUM_PANELS = 4

# A tile asks for this part of the next block at most: for more, a sum would wait longer than it takes.
PREFETCH_PARTS = 16


@kernel
def forward(layer, activation, parameters, operands, A, S, begin, end):
    """z_j = sum_i W_ji a_i + b_j, a_j = f(z_j) (eq. 7) for the examples begin <= r < end, whole tiles of them.

    f is named by `activation`. A holds the layer below at layer.a_in, (rows, n_in) in panels; a is written at
    layer.a_out, (rows, n_out) in panels, and, unless S has no address, f'(z) of an f that a user has supplied to the
    same place of S; unless the layer is the output, operands.a takes a, too. Reads parameters (b) and operands. The
    caller owns the rows begin..end of all, and no one else writes them.
    """
    P, V = panel_width(A), lanes(A)
    for p in range(layer.out_panels):
        if layer.n_out - p * P <= V:
            forward_panel(narrow_tile(A), layer, activation, p, parameters, operands, A, S, begin, end)
        else:
            forward_panel(wide_tile(A), layer, activation, p, parameters, operands, A, S, begin, end)


@kernel
def forward_panel(zero, layer, activation, p, parameters, operands, A, S, begin, end):
    """Eq. 7 for the destinations j of panel p.

    Loop order: a block of W's panel stays in L1 while the examples stream by; a tile's sums stay in registers.
    """
    P, K, weights = panel_width(A), word_numbers(operands.weights), operands.weights
    tall = tall_tile(zero, weights)
    middle = end_of_tall(tall, zero, begin, end)
    W, block = layer.weights + p * layer.rows * P, block_numbers(weights, P)
    for first in range(0, layer.n_in, block):
        last = min(first + block, layer.n_in)
        for r in range(begin, middle, tile_rows(tall)):
            prefetch_next(tall, weights, (W + last * P) // K, (last - first) // K * P, r - begin, end - begin)
            forward_tile(tall, layer, p, parameters, operands, A, first, r)
        for r in range(middle, end, tile_rows(zero)):
            prefetch_next(zero, weights, (W + last * P) // K, (last - first) // K * P, r - begin, end - begin)
            forward_tile(zero, layer, p, parameters, operands, A, first, r)
    a = layer.a_out + p * layer.stride
    if address(S, 0) != 0:
        keep_slopes(layer, activation, A, S, a + begin * P, tile_vectors(zero), end - begin)
    activate(layer, activation, A, a + begin * P, tile_vectors(zero), end - begin)
    if layer.hidden and operands.whole:
        round_panel(A, operands.a, a, layer.n_out - p * P, begin, end)


@kernel
def forward_tile(zero, layer, p, parameters, operands, A, first, r):
    """Eq. 7 for the examples of a tile, from r on, and a block of the sum over i, from `first` on.

    Reads parameters (b), operands and, behind the first block, z so far; writes z. The rows are the caller's. A step of
    the sum is a word of the operands: one source, or two; or the words that matrix registers take at once.
    """
    P, K, weights = panel_width(A), word_numbers(operands.weights), operands.weights
    W, z = (layer.weights + p * layer.rows * P) // K, layer.a_out + p * layer.stride + r * P
    last = min(first + block_numbers(weights, P), layer.n_in)
    acc = begin_sums(zero, weights)
    for q in range(first // P, (last + P - 1) // P):
        a = (layer.a_in + q * layer.stride + r * P - q * P) // K
        for i in range(q * (P // K), end_of_panel(zero, weights, P, q, last), step_words(zero, weights)):
            acc = outer_product(acc, operands.a.rows, a + i, P // K, weights, W + i * P)
    acc = end_sums(acc)
    for n in range(0, tile_rows(zero), TILE_ROWS):
        rows = rows_of(acc, n)
        if first == 0:
            rows = plus_row(rows, parameters, layer.biases + p * P)
        else:
            rows = plus_tile(rows, A, z + n * P)
        store_tile(rows, A, z + n * P)


@kernel
def block_numbers(W, P):
    """How many numbers a block of a sum has, where W is of the operands' kind."""
    return SUM_PANELS * P * word_numbers(W)


@kernel
def end_of_panel(zero, W, P, q, last):
    """The end of the words of panel q in a sum over the numbers before `last`, where W is of the operands' kind."""
    K = word_numbers(W)
    if step_words(zero, W) * K == P:  # a panel is a step of the sum: one, as the compiler should see
        return (q + 1) * (P // K)
    return (min(q * P + P, last) + K - 1) // K


@kernel
def end_of_tall(tall, zero, begin, end):
    """Where, among the rows begin..end, those of whole tall tiles end; `begin` where tall tiles are as others."""
    if tile_rows(tall) == tile_rows(zero):
        return begin
    return end - (end - begin) % tile_rows(tall)


@kernel
def prefetch_next(zero, W, begin, words, row, rows):
    """Ask for so many words of a panel from W[begin] on, where the block of a sum ends and the next begins.

    Each of the tiles of examples that the block meets, this one at `row` of `rows` rows, asks for its part of as many
    words as the block has: the next block, which another core may have written, is in the cache when its turn comes.
    """
    tile, parts = row // TILE_ROWS, max(rows // TILE_ROWS, PREFETCH_PARTS)
    last = tile + tile_rows(zero) // TILE_ROWS
    for w in range(begin + words * tile // parts, begin + words * last // parts, lanes(W)):
        prefetch_to_read(W, w)
