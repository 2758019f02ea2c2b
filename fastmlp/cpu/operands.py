"""What the products multiply: the network's own numbers, or, rounded to bfloat16, pairs of them.

With precision "bf16" every matrix that a product reads has a copy in words of two numbers that are neighbours in the
product's sum: W and its transpose, which their update writes, activations and deltas, which eq. 7 to 9 write, both
along their rows, for forward and backward, and along the examples, for U. A word lies where the two numbers' first
lies in the matrix, places counted in words: a panel has half as many rows then, or rows of half the length.
"""

from typing import NamedTuple

import numpy as np

from fastmlp.cpu.compiling import kernel
from fastmlp.cpu.vector import (
    address,
    load_tile,
    numbers_like,
    paired_columns,
    paired_rows,
    panel_width,
    store_rows,
    store_tile,
    store_transposed,
    tile_rows,
    wide_tile,
    word_numbers,
)


class Operands(NamedTuple):
    """The operands that a step names by address; the network's own arrays where they are not rounded."""

    weights: np.ndarray  # W, paired along its sources i
    transposed: np.ndarray  # W transposed, paired along the destinations j
    a_rows: np.ndarray  # activations, paired along a row, and along the examples
    a_pairs: np.ndarray
    d_rows: np.ndarray  # deltas, likewise
    d_pairs: np.ndarray
    examples: int  # of the chunk
    whole: bool  # whether eq. 7 and 9 round what they write; not where dropout comes behind, which rounds what is left


@kernel
def open_operands(step, F, examples):
    """The operands of a step, of F's kind, for so many examples."""
    return Operands(
        numbers_like(step.weights, F),
        numbers_like(step.transposed, F),
        numbers_like(step.a_rows, F),
        numbers_like(step.a_pairs, F),
        numbers_like(step.d_rows, F),
        numbers_like(step.d_pairs, F),
        examples,
        step.threshold == 0,
    )


@kernel
def round_panel(A, rows, pairs, examples, place, columns, begin, end):
    """Rows begin <= r < end, whole tiles, of a panel of A at `place`, rounded to bfloat16, as factors of eq. 7 to 11.

    A is (rows, P); `columns` of the panel, and the rows before `examples`, are numbers of the network. What may fill up
    a pair beside them is set to zero, in A, too. Writes the operands `rows` and, if it has an address, `pairs`; nothing
    where they are A's own numbers. The caller owns the rows begin..end of all, and no one else writes them.
    """
    if word_numbers(rows) == 1:
        return
    P = panel_width(A)
    for r in range(max(begin, examples), end):
        for n in range(P):
            A[place + r * P + n] = 0.0
    if columns < P and columns % 2 == 1:
        for r in range(begin, end):
            A[place + r * P + columns] = 0.0
    for r in range(begin, end, tile_rows(wide_tile(A))):
        tile = paired_columns(rows, load_tile(wide_tile(A), A, place + r * P))
        word = (place + r * P) // word_numbers(rows)
        store_rows(tile, rows, word)
        if address(pairs, 0) != 0:
            store_tile(paired_rows(pairs, tile), pairs, word)


@kernel
def round_matrix(A, rows, pairs, examples, place, columns, stride, begin, end):
    """`round_panel` for all panels, `stride` apart, of a matrix of so many columns."""
    P = panel_width(A)
    for p in range((columns + P - 1) // P):
        round_panel(A, rows, pairs, examples, place + p * stride, columns - p * P, begin, end)


@kernel
def copy_weights(layer, operands, parameters, w, i, p):
    """The tile of W at row i of panel p, which lies at parameters[w], into the operands of eq. 7 and eq. 9."""
    P, K = panel_width(parameters), word_numbers(operands.weights)
    tile = paired_columns(operands.weights, load_tile(wide_tile(parameters), parameters, w))
    if K > 1:
        store_tile(paired_rows(operands.weights, tile), operands.weights, w // K)
    if layer.transposed >= 0:
        t = (layer.transposed + (i // P * layer.columns + p * P) * P) // K + i % P
        store_transposed(tile, operands.transposed, t)
