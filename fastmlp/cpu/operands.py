"""What the products multiply: the network's own numbers, or, rounded to bfloat16, pairs of them.

With precision "bf16" every matrix that a product reads has a copy in words of two numbers that are neighbours in the
product's sum: W and its transpose, which their update writes, activations and deltas, which eq. 7 to 9 write, both
along their rows, for forward and backward, and along the examples, for U. A word lies where the two numbers' first
lies in the matrix, places counted in words: a panel has half as many rows then, or rows of half the length. Matrix
registers (AMX) want the sum along the rows of a left factor: of the activations' pairs along the examples, U's left
factor, the words of a column lie behind one another there, for a step of the sum after another.
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
    step_words,
    store_rows,
    store_tile,
    store_transposed,
    tile_rows,
    wide_row,
    wide_tile,
    word_numbers,
)


class Factor(NamedTuple):
    """A matrix of the chunk's examples, row by row, as factor of products."""

    rows: np.ndarray  # paired along a row, for eq. 7 and 9
    pairs: np.ndarray  # paired along the examples, for eq. 10; without an address where it is not wanted
    left: bool  # whether it is eq. 10's left factor
    examples: int


class Operands(NamedTuple):
    """The operands that a step names by address; the network's own arrays where they are not rounded."""

    weights: np.ndarray  # W, paired along its sources i
    transposed: np.ndarray  # W transposed, paired along the destinations j
    a: Factor  # activations
    d: Factor  # deltas
    whole: bool  # whether eq. 7 and 9 round what they write; not where dropout comes behind, which rounds what is left


@kernel
def open_operands(step, F, examples):
    """The operands of a step, of F's kind, for so many examples."""
    return Operands(
        numbers_like(step.weights, F),
        numbers_like(step.transposed, F),
        Factor(numbers_like(step.a_rows, F), numbers_like(step.a_pairs, F), True, examples),
        Factor(numbers_like(step.d_rows, F), numbers_like(step.d_pairs, F), False, examples),
        step.threshold == 0,
    )


@kernel
def round_panel(A, factor, place, columns, begin, end):
    """Rows begin <= r < end, whole tiles, of a panel of A at `place`, rounded to bfloat16, as factors of eq. 7 to 11.

    A is (rows, P); `columns` of the panel, and the rows before factor.examples, are numbers of the network. What fills
    up a step of a sum beside them is set to zero, in A, too. Writes the operands; nothing where they are A's own
    numbers. The caller owns the rows begin..end of all, and no one else writes them; who owns the last example owns
    the rows that fill up the last step of a sum over the examples, too.
    """
    rows, pairs, examples = factor.rows, factor.pairs, factor.examples
    if word_numbers(rows) == 1:
        return
    P, height = panel_width(A), tile_rows(wide_tile(A))
    step = 2 * step_words(wide_tile(A), rows)
    along_examples = address(pairs, 0) != 0
    if along_examples and end >= examples:
        end = max(end, filled_up(examples, step))
    for r in range(max(begin, examples), end):
        for n in range(P):
            A[place + r * P + n] = 0.0
    for r in range(begin, end):
        for n in range(columns, min(P, filled_up(columns, step))):
            A[place + r * P + n] = 0.0
    for r in range(begin, end, height):
        tile = paired_columns(rows, load_tile(wide_tile(A), A, place + r * P))
        word = (place + r * P) // 2
        store_rows(tile, rows, word)
        if along_examples and factor.left and step > 2:
            within = r % step  # of the step's block of the panel, whose columns lie behind one another
            store_transposed(paired_rows(pairs, tile), pairs, word - within * P // 2 + within // 2, step // 2)
        elif along_examples:
            store_tile(paired_rows(pairs, tile), pairs, word)


@kernel
def filled_up(count, step):
    """The numbers of whole steps of a sum over so many."""
    return (count + step - 1) // step * step


@kernel
def round_matrix(A, factor, place, columns, stride, begin, end):
    """`round_panel` for all panels, `stride` apart, of a matrix of so many columns."""
    P = panel_width(A)
    for p in range((columns + P - 1) // P):
        round_panel(A, factor, place + p * stride, columns - p * P, begin, end)


@kernel
def round_row(A, rows, place, columns):
    """One example's numbers at A[place], panel after panel, rounded to pairs in `rows`, if it has pairs.

    What fills up the last step of a sum is set to zero, in A, too.
    """
    P, K = panel_width(A), word_numbers(rows)
    if K == 1:
        return
    for n in range(columns, filled_up(columns, K * step_words(wide_row(A), rows))):
        A[place + n] = 0.0
    for n in range(place, place + columns, P):
        store_rows(paired_columns(rows, load_tile(wide_row(A), A, n)), rows, n // K)


@kernel
def copy_weights(layer, operands, parameters, w, i, p):
    """The tile of W at row i of panel p, which lies at parameters[w], into the operands of eq. 7 and eq. 9."""
    P, K = panel_width(parameters), word_numbers(operands.weights)
    tile = paired_columns(operands.weights, load_tile(wide_tile(parameters), parameters, w))
    if K > 1:
        store_tile(paired_rows(operands.weights, tile), operands.weights, w // K)
    if layer.transposed >= 0:
        t = (layer.transposed + (i // P * layer.columns + p * P) * P) // K + i % P
        store_transposed(tile, operands.transposed, t, P)
