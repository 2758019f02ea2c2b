"""What the operations on a chunk of examples read and write."""

from typing import Any, NamedTuple


class Work(NamedTuple):
    """The step, and the arrays of a training, of one dimension, and `flat` (see ptx.py)."""

    step: Any  # a record of layout.STEP
    layers: Any  # records of layout.LAYER
    model: Any  # W and b, and the optimizer's moments
    room: Any  # a, delta, targets, weights of the chunk's examples, U and V, h
    ring: Any  # shared memory
    partial: Any  # the same, as float64
    data: Any  # X, then T; or the stored values of a CSR matrix, then T
    bytes: Any  # X of uint8
    integers: Any  # the order of the examples, class labels, a CSR matrix's indptr and columns (int32)
    weights: Any  # of the examples, then what is added to their losses (float64)
    sums: Any  # see layout.build; then, of each minibatch, 1 / (the sum of its weights) and Adam's step size


# What is known of a chunk of examples, mostly in shared memory: its number, its minibatch, its first example, counted
# over the minibatch, its examples and the minibatch's, which buffer its inputs, targets and weights are in; and how
# many barriers the block has come to.
NUMBER, MINIBATCH, OFFSET, EXAMPLES, IN_MINIBATCH, PARITY, BARRIERS = range(7)
