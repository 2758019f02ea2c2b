"""The arrays that one chunk of examples is worked on in."""

from typing import NamedTuple

import numpy as np

from fastmlp.cpu.compiling import kernel
from fastmlp.cpu.vector import numbers_at, numbers_like

FLOAT64, INT64 = np.dtype(np.float64), np.dtype(np.int64)


class Work(NamedTuple):
    """The arrays that a step names by address (see layout.STEP): flat, without bounds."""

    parameters: np.ndarray
    first: np.ndarray
    second: np.ndarray
    activations: np.ndarray
    deltas: np.ndarray
    targets: np.ndarray
    row_weights: np.ndarray
    mask: np.ndarray
    slopes: np.ndarray
    gradients: np.ndarray
    scratch: np.ndarray
    losses: np.ndarray
    squares: np.ndarray
    norms: np.ndarray
    not_finite: np.ndarray


@kernel
def open_work(step, A):
    """The arrays of a step, A being its activations."""
    return Work(
        numbers_like(step.parameters, A),
        numbers_like(step.first, A),
        numbers_like(step.second, A),
        A,
        numbers_like(step.deltas, A),
        numbers_like(step.targets, A),
        numbers_like(step.row_weights, A),
        numbers_like(step.mask, A),
        numbers_like(step.slopes, A),
        numbers_like(step.gradients, A),
        numbers_like(step.scratch, A),
        numbers_at(step.losses, FLOAT64),
        numbers_at(step.squares, FLOAT64),
        numbers_at(step.norms, FLOAT64),
        numbers_at(step.not_finite, INT64),
    )
