"""z and a of a layer for a block of examples (eq. 7)."""

from fastmlp.cpu.activation import activate, keep_slopes
from fastmlp.cpu.compiling import kernel
from fastmlp.cpu.operands import round_panel
from fastmlp.cpu.vector import (
    TILE_ROWS,
    address,
    lanes,
    narrow_tile,
    outer_product,
    panel_width,
    plus_row,
    plus_tile,
    prefetch_to_read,
    store_tile,
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
    same place of S; unless the layer is the output, operands.a_rows and a_pairs take a, too. Reads parameters (b) and
    operands. The caller owns the rows begin..end of all, and no one else writes them.
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

    Loop order: a block of W's panel stays in L1 while the examples stream by; a tile's sums stay in registers. A step
    of the sum over i is a word of the operands: one source, or two.
    """
    P, K = panel_width(A), word_numbers(operands.weights)
    W = (layer.weights + p * layer.rows * P) // K
    b = layer.biases + p * P
    block = SUM_PANELS * P * K
    for first in range(0, layer.n_in, block):
        last = min(first + block, layer.n_in)
        for r in range(begin, end, tile_rows(zero)):
            z = layer.a_out + p * layer.stride + r * P
            acc = zero
            prefetch_next(operands.weights, W, first // K * P, last // K * P, r - begin, end - begin)
            for q in range(first // P, (last + P - 1) // P):
                a = (layer.a_in + q * layer.stride + r * P - q * P) // K
                for i in range(q * P // K, (min(q * P + P, last) + K - 1) // K):
                    acc = outer_product(acc, operands.a_rows, a + i, P // K, operands.weights, W + i * P)
            if first == 0:
                acc = plus_row(acc, parameters, b)
            else:
                acc = plus_tile(acc, A, z)
            store_tile(acc, A, z)
    a = layer.a_out + p * layer.stride + begin * P
    if address(S, 0) != 0:
        keep_slopes(layer, activation, A, S, a, tile_vectors(zero), end - begin)
    activate(layer, activation, A, a, tile_vectors(zero), end - begin)
    if layer.hidden and operands.whole:
        place, columns = layer.a_out + p * layer.stride, layer.n_out - p * P
        round_panel(A, operands.a_rows, operands.a_pairs, operands.examples, place, columns, begin, end)


@kernel
def prefetch_next(W, panel, first, last, row, rows):
    """Ask for words of a panel that lie behind its block W[panel + first : panel + last].

    Each of the tiles of examples that the block meets asks for its part of as many words as the block has: the next
    block, which another core may have written, is in the cache when its turn comes.
    """
    words, tile, parts = last - first, row // TILE_ROWS, max(rows // TILE_ROWS, PREFETCH_PARTS)
    begin = panel + last
    for w in range(begin + words * tile // parts, begin + words * (tile + 1) // parts, lanes(W)):
        prefetch_to_read(W, w)
