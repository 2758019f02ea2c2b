"""How many floating-point operations a second the register tile does at most, on factors that stay in the L1 cache."""

import time

import numpy as np
from numba import from_dtype, types

from fastmlp.cpu import compiling
from fastmlp.cpu.compiling import callable_at, once
from fastmlp.cpu.layout import aligned
from fastmlp.cpu.team import run_shares
from fastmlp.cpu.vector import (
    TILE_ROWS,
    outer_product,
    panel_of,
    panel_width,
    store_tile,
    tile_rows,
    wide_tile,
)

TERMS = 64  # of a product of two factors; with them a share's room is a few KB
ROUNDS = 12000  # so many that starting threads does not show
TRIES = 7


def multiply_tiles(rounds, A, share, shares):
    """So many products of a tile's rows (TILE_ROWS, TERMS) and of TERMS rows of a panel, each added to the same sums.

    A holds for each share both factors and room for a tile of sums, which are zeros.
    """
    P, height = panel_width(A), tile_rows(wide_tile(A))
    begin = share * (TERMS * (height + P) + height * P)
    acc = wide_tile(A)
    for _ in range(rounds):
        for k in range(TERMS):
            acc = outer_product(acc, A, begin + k, TERMS, A, begin + TERMS * height + k * P)
    store_tile(acc, A, begin + TERMS * (height + P))


@once
def compiled_products(real):
    """The products, compiled for a dtype."""
    word = types.intp
    signature = types.void(word, types.CPointer(from_dtype(real)), word, word)
    return compiling.pointer(signature, multiply_tiles)


def peak(dtype, threads):
    """Operations a second, multiplications and additions, of so many threads at once: the best of some tries."""
    dtype = np.dtype(dtype)
    P = panel_of(dtype)
    address = compiled_products(dtype).address
    A = aligned(threads * (TERMS * (TILE_ROWS + P) + TILE_ROWS * P), dtype)
    best = np.inf
    for _ in range(TRIES):
        start = time.perf_counter()
        if threads == 1:
            callable_at(address, 4)(ROUNDS, A.ctypes.data, 0, 1)
        else:
            run_shares(address, ROUNDS, A.ctypes.data, threads)
        best = min(best, time.perf_counter() - start)
    return 2.0 * TILE_ROWS * P * TERMS * ROUNDS * threads / best
