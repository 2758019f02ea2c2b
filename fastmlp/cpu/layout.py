"""Where everything lies: weights, activations and deltas in column panels, and the tables that tell kernels.

A matrix is cut into panels of P columns (P = the width of a wide tile); a panel's rows follow one another in memory,
P numbers each, and the panels follow one another. A product of any two such matrices then reads both as contiguous
streams, and nothing is ever packed. Rows and columns are padded with zeros to whole tiles.
"""

import functools
from typing import NamedTuple

import numpy as np

from fastmlp.codes import activation_code
from fastmlp.cpu.supplied import compiled_map
from fastmlp.cpu.vector import TILE_ROWS, VECTOR_BYTES, panel_of

# Examples that go forward and backward together: the deltas' panel (CHUNK_ROWS x P) should stay in the L1 or L2 cache
# while it meets every weight. A minibatch larger than this is cut into equal chunks that add to U and V.
CHUNK_ROWS = 256

# Phases of a chunk: a pass over the examples, three over the weights; and a look at the weights behind them all.
EXAMPLES, SUM, MEASURE, UPDATE, LOOK = range(5)

# One record a layer of weights; kernels read `layer.n_in` and so on, so one compilation serves every architecture.
LAYER = np.dtype(
    [
        (name, np.int64)
        for name in (
            "n_in",  # units of the layer below
            "n_out",  # units of this layer
            "in_panels",
            "out_panels",
            "rows",  # n_in padded to tiles: rows of a panel of W
            "columns",  # n_out padded to panels: rows of a panel of the transposed W
            "weights",  # offset of W's panels in the parameters
            "biases",  # offset of b in the parameters: right behind W, so that neighbouring layers are one range
            "transposed",  # offset of the transposed W's panels, -1 where eq. 9 does not need it
            "tile",  # number of the first tile of W and b, counted over all layers: the slots of sums over weights
            "a_in",  # offset of the layer below in the activations (and deltas)
            "a_out",  # offset of this layer in the activations (and deltas)
            "stride",  # elements from one panel of activations to the next
            "hidden",  # whether another layer is above
            "activation",
            "f",  # of an activation that a user has supplied, and f': addresses of functions (see supplied.py), else 0
            "df",
        )
    ]
)


def padded(count, multiple):
    """count rounded up to a multiple."""
    return -(-count // multiple) * multiple


def aligned(size, dtype):
    """Zeros that begin on a cache line."""
    itemsize = np.dtype(dtype).itemsize
    raw = np.zeros(size + VECTOR_BYTES // itemsize + 64 // itemsize, dtype)
    return raw[(-raw.ctypes.data % 64) // itemsize :][:size]


# What the kernels know of a training: where its arrays are, its settings, and where in the epoch it stands. The first
# words are those of the room that it works in.
STEP = np.dtype(
    [
        (name, np.int64)
        for name in (
            # the passes over a chunk's examples and over the weights (see epoch.py), and the table of layers
            "examples_pass",
            "weights_pass",
            "layers",
            "n_layers",
            "team",  # of the threads (see team.py)
            # room for one chunk: activations, deltas, targets (rows, n) in panels; activations and deltas as operands
            # (see operands.py); a weight for each row, zero for padding; a one for each output, zero for padding; f'(z)
            # of supplied activations, as the activations lie (0: not wanted); U and V where they are needed whole; a
            # tile a thread
            "activations",
            "deltas",
            "targets",
            "a_rows",
            "a_pairs",
            "d_rows",
            "d_pairs",
            "row_weights",
            "mask",
            "slopes",
            "gradients",
            "scratch",
            # slots of sums (float64): losses for each tile of rows, W^2 and squared gradients for each tile of
            # weights; whether a tile of rows met a number that is not finite (int64); how many of either tiles
            "losses",
            "squares",
            "norms",
            "not_finite",
            "n_row_tiles",
            "n_tiles",  # the last word of the room
            # X and the targets: the gather kernel and what it reads (see gather.py); their order, 0 for 0, 1, 2, ...;
            # the examples that are shuffled, 0 for all; the examples' weights and what is added to their losses
            # (float64), 0 when there are none
            "x_gather",
            "x_source",
            "t_gather",
            "t_source",
            "order",
            "subset",
            "sample_weight",
            "loss_offsets",
            # what training changes, flat and laid out by layout(): W in panels and b; W and its transpose, in panels,
            # as operands; the optimizer's velocity or first moment and second moment; and W and b as they were before
            # the epoch
            "parameters",
            "weights",
            "transposed",
            "first",
            "second",
            "remembered",
            "n_parameters",
            "parameter_words",  # of 8 bytes
            # prediction: where h goes, (m, n_out) row by row, or whether it is the place of each row's largest number
            # (int64); and the numbers in one share's room for a chunk
            "out",
            "largest",
            "room",
            # settings
            "rule",
            "loss",
            "loss_f",  # of a loss that a user has supplied, and its derivative: addresses of functions, else 0
            "loss_df",
            "m",
            "batch_size",
            "l2_per_example",  # whether l2 is divided by the sum of the weights of the minibatch's examples
            "check",  # whether to look for numbers that are not finite
            "clip",  # whether there is a largest length of the gradient
            "shuffle",  # whether the order is drawn anew when the epoch begins
            "order_seed",
            "dropout_seed",
            "threshold",  # dropout * 2^32
            "updates",  # updates of the weights before this epoch: Adam's t
            # of a training on many machines (see mpi.py), else 0: for each minibatch where its examples end in the
            # order (int64) and the weight of its examples on all machines (float64); where each example of the order
            # stands in its minibatch (int64); whether U and V are summed with those of others before they are used
            "ends",
            "totals",
            "places",
            "shared",
            # the chunks of the epoch that are to be run, the latter excluded; where the epoch stands
            "from_chunk",
            "to_chunk",
            "from_phase",  # the phases of them, the latter included, and of a minibatch's last chunk the layers, the
            "to_phase",  # latter excluded: from the top downwards, in one call or in several
            "from_layer",
            "to_layer",
            "part",  # whether this is one of several calls, before and behind which others begin and end the slice
            "phase",
            "bottom",  # the layers of the pass, the latter excluded
            "top",
            "minibatch",
            "start",  # the minibatch's first example, counted over the epoch's order
            "rows",  # its examples in the order
            "examples_in_batch",  # on all machines
            "begin",  # the chunk's first example, counted over the epoch's order
            "examples",  # in the chunk
            "offset",  # the chunk's first example, counted over the minibatch
            "first_chunk",
            "last_chunk",
            # what a call leaves: whether a number of X or T was not finite, and whether all weights and biases are
            "bad_input",
            "finite",
        )
    ]
    + [
        (name, np.float64)
        for name in (
            "keep",  # 1 - dropout
            "l2",
            "learning_rate",
            "momentum",
            "beta_1",
            "beta_2",
            "epsilon",
            "weight_decay",
            "max_norm",
            "lowest_loss",  # of a probability, in log loss
            "highest_loss",
            "scale",  # 1 / m, or one over the sum of the examples' weights
            "penalty",  # l2, times the gradient's shortening
            "penalty_weight",  # what W^2 adds to the sum of the losses
            "decay",  # learning_rate * weight_decay
            "step_size",  # learning_rate with Adam's bias corrections
            "loss_sum",  # the sums of losses and squares, over the epoch as far as it has come
            "square_sum",
        )
    ]
)


ROOM_WORDS = (STEP.names or ()).index("n_tiles") + 1


class Layout(NamedTuple):
    """The table of layers of a network and the sizes of its buffers, in numbers of its dtype."""

    layers: np.ndarray
    parameters: int
    transposed: int
    activations: int
    tiles: int
    rows: int  # examples that the activations have room for


@functools.lru_cache(maxsize=256)
def layout(sizes: tuple[int, ...], activation: str, output: str, dtype: np.dtype, rows: int) -> Layout:
    """Lay out a network of the given layer widths for chunks of up to `rows` examples; nobody changes the result."""
    panel = panel_of(dtype)
    rows = padded(rows, TILE_ROWS)
    stride = rows * panel
    layers = np.zeros(len(sizes) - 1, LAYER)
    parameters = transposed = activations = tiles = 0
    for number, (layer, n_in, n_out) in enumerate(zip(layers, sizes, sizes[1:], strict=False)):
        layer["n_in"], layer["n_out"] = n_in, n_out
        layer["in_panels"], layer["out_panels"] = -(-n_in // panel), -(-n_out // panel)
        layer["rows"], layer["columns"] = padded(n_in, TILE_ROWS), padded(n_out, panel)
        layer["weights"] = parameters
        layer["biases"] = parameters + layer["rows"] * layer["columns"]
        parameters = layer["biases"] + layer["columns"]
        layer["transposed"] = transposed if number else -1
        transposed += layer["columns"] * layer["in_panels"] * panel if number else 0
        layer["tile"] = tiles
        tiles += (layer["rows"] // TILE_ROWS + 1) * layer["out_panels"]
        layer["a_in"] = activations
        activations += layer["in_panels"] * stride
        layer["a_out"] = activations
        layer["stride"] = stride
        layer["hidden"] = number < len(layers) - 1
        own = activation if layer["hidden"] else output
        layer["activation"] = activation_code(own)
        if not isinstance(own, str):
            layer["f"] = compiled_map(own.plain_f, 1, dtype).address
            layer["df"] = compiled_map(own.plain_df, 1, dtype).address
    activations += layers[-1]["out_panels"] * stride
    layers.flags.writeable = False
    return Layout(layers, int(parameters), int(transposed), int(activations), int(tiles), rows)


def to_panels(matrix, flat, offset, rows):
    """Write a matrix into panels of `rows` rows at flat[offset]."""
    panel = panel_of(flat.dtype)
    for p in range(-(-matrix.shape[1] // panel)):
        view = flat[offset + p * rows * panel :][: rows * panel].reshape(rows, panel)
        columns = matrix[:, p * panel : (p + 1) * panel]
        view[: columns.shape[0], : columns.shape[1]] = columns


def bfloat16_bits(matrix):
    """The upper halves of float32 numbers, rounded to the nearest, of two the even one; as uint32."""
    bits = np.ascontiguousarray(matrix, np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + (bits >> 16 & 1))) >> 16
    return np.where(np.isnan(matrix), bits >> 16 | 0x40, rounded)


def paired(matrix):
    """Neighbouring rows of a matrix in words of two bfloat16 numbers; one that lacks a neighbour has zero."""
    bits = bfloat16_bits(matrix)
    if len(bits) % 2:
        bits = np.concatenate([bits, np.zeros_like(bits[:1])])
    return (bits[1::2] << 16 | bits[::2]).astype(np.uint32)


def from_panels(flat, offset, rows, shape):
    """The matrix of a shape that lies in panels of `rows` rows at flat[offset]."""
    panel = panel_of(flat.dtype)
    matrix = np.empty(shape, flat.dtype)
    for p in range(-(-shape[1] // panel)):
        view = flat[offset + p * rows * panel :][: rows * panel].reshape(rows, panel)
        columns = matrix[:, p * panel : (p + 1) * panel]
        columns[...] = view[: shape[0], : columns.shape[1]]
    return matrix
