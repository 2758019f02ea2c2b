"""How many floating-point operations a second the register tile does at most, on factors that stay in the L1 cache."""

import time

import numpy as np
from numba import from_dtype, types

from fastmlp.cpu import compiling
from fastmlp.cpu.compiling import callable_at, kernel, once
from fastmlp.cpu.layout import aligned
from fastmlp.cpu.team import run_shares
from fastmlp.cpu.vector import (
    PAIR,
    TALL_ROWS,
    TILE_ROWS,
    address,
    begin_sums,
    configure_matrices,
    end_sums,
    numbers_at,
    outer_product,
    panel_of,
    panel_width,
    release_matrices,
    rows_of,
    step_words,
    store_tile,
    tall_tile,
    tile_rows,
    wide_tile,
)

TERMS = 64  # of a product of two factors; with them a share's room is a few KB
ROUNDS = 12000  # so many that starting threads does not show
TRIES = 7


@kernel
def multiply(rounds, A, F, share):
    """So many products of a tile's rows (height, TERMS) and of TERMS rows of a panel, each added to the same sums.

    A holds for each share both factors and room for a tile of sums, which are zeros; F is A, or A as pairs.
    """
    tile = tall_tile(wide_tile(A), F)
    P, height = panel_width(A), tile_rows(tile)
    begin = share * (TERMS * (height + P) + height * P)
    acc = begin_sums(tile, F)
    for _ in range(rounds):
        for k in range(0, TERMS, step_words(tile, F)):
            acc = outer_product(acc, F, begin + k, TERMS, F, begin + TERMS * height + k * P)
    acc = end_sums(acc)
    for n in range(0, height, TILE_ROWS):
        store_tile(rows_of(acc, n), A, begin + TERMS * (height + P) + n * P)


def multiply_tiles(rounds, A, share, shares):
    """`multiply` with A's own numbers."""
    multiply(rounds, A, A, share)


def multiply_rounded_tiles(rounds, A, share, shares):
    """`multiply` with pairs of bfloat16 numbers."""
    configure_matrices()
    multiply(rounds, A, numbers_at(address(A, 0), PAIR), share)
    release_matrices()


@once
def compiled_products(real, precision):
    """The products, compiled for a dtype and a precision."""
    word = types.intp
    signature = types.void(word, types.CPointer(from_dtype(real)), word, word)
    return compiling.pointer(signature, multiply_rounded_tiles if precision == "bf16" else multiply_tiles)


def peak(dtype, threads, precision="float32"):
    """Operations a second, multiplications and additions, of so many threads at once: the best of some tries."""
    dtype = np.dtype(dtype)
    P = panel_of(dtype)
    function = compiled_products(dtype, precision).address
    rounded = precision == "bf16"
    height = TALL_ROWS if rounded else TILE_ROWS
    A = aligned(threads * (TERMS * (height + P) + height * P), dtype)
    best = np.inf
    for _ in range(TRIES):
        start = time.perf_counter()
        if threads == 1:
            callable_at(function, 4)(ROUNDS, A.ctypes.data, 0, 1)
        else:
            run_shares(function, ROUNDS, A.ctypes.data, threads)
        best = min(best, time.perf_counter() - start)
    numbers = 2 if rounded else 1  # in a word
    return 2.0 * numbers * height * P * TERMS * ROUNDS * threads / best
