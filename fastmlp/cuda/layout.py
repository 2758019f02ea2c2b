"""Where everything lies on the device, and the program of a minibatch: which block does what, in which order.

Matrices lie row by row, each row padded with zeros to whole vectors of 16 bytes. A chunk of examples (a minibatch, or
a part of one) is worked on in *stages*, with a barrier of all blocks behind each. A stage has *operations*, each cut
into tasks, mostly tiles of a matrix; blocks take a stage's tasks in turn. A *fused* stage takes the rows of a tile
through several layers without a barrier: no other block reads or writes those rows, or several blocks share them, each
for a part of the last operation's columns: what comes before, of one column of tiles, each does for itself. Which
layers are fused, and how large the tiles are, is chosen by `plan`: its seconds are the library's only guess of a
device's speed.

In bfloat16 a network of at most 128 units a layer has another program: a *pass* takes a part of the chunk's examples
through all layers in one operation (fused.py), and the next stage sums the parts' U and V, and updates. For one hidden
layer and small minibatches there is a program without stages (stationary.py): blocks keep the W of their units.

In bfloat16 what is multiplied, a, delta and W, lies in memory a second time, two numbers a *word* of 32 bits, with rows
as long as the float32 ones: whatever writes the one writes the other. X is kept so only. In the other precisions the
places of the two are the same.
"""

import functools
import math
import operator
from typing import Any, NamedTuple

import numpy as np

from fastmlp.codes import ADAM, DESCENT, EVALUATE, STORE, activation_code
from fastmlp.cuda.ptx import SIMULATED, VECTOR_BYTES

# Kinds of operations.
GATHER, FORWARD, OUTPUT, OUTPUT_DELTA, BACKWARD, ACCUMULATE, ACCUMULATE_BIAS, MEASURE, UPDATE, PASS, REDUCE = range(11)

# Kinds of data on the device.
REALS, BYTES, SPARSE, LABELS = range(4)

# More examples than this are taken in equal chunks, which add to U and V: a sum of float32 has no more terms.
CHUNK_ROWS = 16384

GATHER_ROWS = 4  # examples of which a thread has a vector on its way at once, where all of a pass waits for them
PASS_SHARE = 0.4  # of the tensor cores' peak in a pass through all layers, guessed
PASS_STEP_SECONDS = 0.2e-6  # that warps wait for one another and for W in it, each time
MOMENTS = {DESCENT: 0, ADAM: 2}  # of a rule; all others have one
STATIONARY_SECONDS = 1.5e-6  # of a step where blocks keep their W, beside the wait and the products, guessed

TABLES_BYTES = 3072  # of a block's shared memory that the tables and the device itself take, about

PREDICT = -1  # a rule: the outputs are wanted, nothing else


class Shape(NamedTuple):
    """A tile of a product: rows x columns sums, each over `depth` terms a step in so many slices side by side."""

    rows: int
    columns: int
    slices: int
    rows_each: int  # of one thread
    columns_each: int
    stages: int  # steps whose terms are on their way or in shared memory
    share: float = 0.5  # of the instructions of a step that multiply, read off the assembly

    @property
    def threads(self) -> int:
        return self.slices * (self.rows // self.rows_each) * (self.columns // self.columns_each)

    @property
    def precision(self) -> str:
        """None but a network's own dtype, in which it multiplies."""
        return "float32"

    @property
    def per_word(self) -> int:
        """Terms in a place of what is multiplied: the float32 or float64 themselves."""
        return 1

    def depth(self, real: Any) -> int:
        """Terms a step: each thread brings one vector of either factor."""
        return self.threads * lanes(real) // self.rows


class WarpShape(NamedTuple):
    """A tile that warps multiply on tensor cores: rows x columns sums, each over `words` words a step."""

    precision: str
    rows: int
    columns: int
    slices: int
    rows_each: int  # of one warp
    columns_each: int
    stages: int
    words: int  # of 32 bits, that a step has of a row or column: one term each in TF32, two in bfloat16
    blocks: int  # that are to fit on a multiprocessor
    share: float  # of the tensor cores' peak that mma.sync and the shared memory allow, guessed

    @property
    def threads(self) -> int:
        return 32 * self.slices * (self.rows // self.rows_each) * (self.columns // self.columns_each)

    @property
    def per_word(self) -> int:
        """Terms in a word."""
        return 2 if self.precision == "bf16" else 1

    def depth(self, real: Any) -> int:
        """Terms a step."""
        return self.words * self.per_word

    def line(self, count: int, by_row: bool) -> int:
        """Words from one line of a factor in shared memory to the next, so that a warp's reads meet no bank twice.

        By row a line has the step's terms of a row, else all `count` rows (or columns) of a term.
        """
        if by_row:
            return self.words + 4
        return count // self.per_word + (8 if self.per_word == 1 else 4)

    def step_words(self, a_by_row: bool, b_by_row: bool) -> tuple[int, int]:
        """Words of shared memory for a step of either factor."""
        depth = self.words * self.per_word
        a = (self.rows if a_by_row else depth) * self.line(self.rows, a_by_row)
        b = (self.columns if b_by_row else depth) * self.line(self.columns, b_by_row)
        return a, b

    @property
    def sums_line(self) -> int:
        """Numbers from one row of the sums in shared memory to the next."""
        return self.columns + 8

    def ring_words(self) -> int:
        """Words of shared memory, for the factors of every product and for the sums."""
        steps = (self.step_words(*by_row) for by_row in ((True, False), (True, True), (False, False)))
        return max(self.stages * max(map(sum, steps)), self.slices * self.rows * self.sums_line)


class PassShape(NamedTuple):
    """A tile of examples that a block takes through all layers in bfloat16, each padded to `width` units (fused.py)."""

    width: int
    rows: int  # 16 of a warp

    @property
    def threads(self) -> int:
        return 2 * self.rows

    @property
    def columns(self) -> int:
        return self.width

    @property
    def precision(self) -> str:
        return "bf16"

    @property
    def per_word(self) -> int:
        return 2

    @property
    def line(self) -> int:
        """Words from one row of a matrix in shared memory to the next, so that ldmatrix meets no bank twice."""
        return self.width // 2 + 4

    def ring_words(self, n_layers: int) -> int:
        """Words of shared memory: sums of the block, two W and b, a of each layer and a delta, f' of hidden layers."""
        matrices = 2 * self.width + (n_layers + 1) * self.rows
        return 2 * self.threads + 2 * self.width + matrices * self.line + (n_layers - 1) * self.rows * self.width // 2


class StationaryPlaces(NamedTuple):
    """Where a block's arrays lie in shared memory, in words."""

    W: int  # of the output, behind the room of block_sum
    error: int  # delta of the output
    delta: int  # of the block's units
    X: int  # two buffers


class StationaryShape(NamedTuple):
    """Blocks that each keep the W of 16 hidden units, in bfloat16 (stationary.py)."""

    warps: int  # of which each has 8 examples and 16 hidden units of the output's layer
    steps: int  # of 16 inputs, whose W a warp keeps at most

    @property
    def threads(self) -> int:
        return 32 * self.warps

    @property
    def rows(self) -> int:
        """Examples of a minibatch, at the most."""
        return 8 * self.warps

    @property
    def columns(self) -> int:
        """Hidden units of a block."""
        return 16

    @property
    def precision(self) -> str:
        return "bf16"

    @property
    def per_word(self) -> int:
        """Terms in a word."""
        return 2

    @property
    def line(self) -> int:
        """Words from one row of what has 16 columns to the next, so that ldmatrix meets no bank twice."""
        return 12

    @property
    def delta_line(self) -> int:
        """The same of what has a column for each example."""
        return self.rows // 2 + 4

    @property
    def first_output(self) -> int:
        """The first of the output's W among a thread's W and b: behind 8 for each step, before b."""
        return 8 * self.steps

    @property
    def first_bias(self) -> int:
        """The output's 4 b; behind them 2 of the hidden units."""
        return self.first_output + 8

    @property
    def entries(self) -> int:
        return self.first_bias + 6

    @property
    def parts(self) -> int:
        """Words of the warps' parts of z, which take the place of X."""
        return self.warps * self.rows * 16

    @property
    def published(self) -> int:
        """Words of a (examples, hidden units), twice."""
        return 2 * self.rows * 16 * self.warps // 2

    @property
    def places(self) -> StationaryPlaces:
        W = 2 * self.threads
        error = W + 16 * self.warps * self.line
        delta = error + self.rows * self.line
        return StationaryPlaces(W, error, delta, delta + 16 * self.delta_line)

    def takes(self, sizes: tuple[int, ...], rows: int) -> bool:
        """Whether it is for such networks and minibatches."""
        most = 16 * self.warps * self.steps, 16 * self.warps, 16
        return len(sizes) == 3 and rows <= self.rows and all(map(operator.le, sizes, most))

    def ring_words(self, n_in: int) -> int:
        """Words of shared memory."""
        return self.places.X + 2 * max(self.rows * (padded(n_in, 16) // 2 + 4), self.parts)


TileShape = Shape | WarpShape
StagedShape = TileShape | PassShape
AnyShape = StagedShape | StationaryShape


# The largest tile is for float32 only: as many sums of float64 would not fit a thread's registers.
SHAPES: tuple[Shape, ...]
if SIMULATED:
    SHAPES = (Shape(4, 16, 2, 4, 4, 3), Shape(8, 64, 2, 8, 8, 2))
else:
    SHAPES = (
        Shape(16, 16, 16, 4, 4, 4, 0.47),
        Shape(32, 32, 4, 4, 4, 4, 0.58),
        Shape(64, 64, 1, 4, 4, 4, 0.72),
        Shape(128, 128, 1, 8, 8, 3, 0.83),
    )

# A warp's 64 x 64 sums are as many as its registers hold, and let shared memory keep up with the tensor cores. The
# largest tile needs more shared memory than compute capability 8.0 has; the slices of the smallest share the terms.
DEVICE_WARP_TILES: tuple[tuple[Any, ...], ...] = (
    (16, 16, 4, 16, 16, 4, 32, 4, 0.15),
    (32, 32, 1, 16, 16, 4, 32, 4, 0.2),
    (64, 64, 1, 32, 32, 3, 32, 3, 0.4),
    (128, 128, 1, 64, 64, 3, 32, 2, 0.6),
    (128, 256, 1, 64, 64, 3, 32, 1, 0.62),
)
SIMULATED_WARP_TILES: tuple[tuple[Any, ...], ...] = (
    (16, 16, 1, 16, 16, 2, 8, 1, 0.3),
    (16, 16, 2, 16, 16, 3, 16, 1, 0.3),
    (32, 32, 1, 16, 32, 2, 8, 1, 0.3),
)
WARP_TILES = SIMULATED_WARP_TILES if SIMULATED else DEVICE_WARP_TILES
# TF32 multiplies less of the time: its fragments are rounded, and in part loaded word by word. A guess.
WARP_SHAPES = {
    precision: tuple(WarpShape._make((precision, *tile, share * part)) for *tile, share in WARP_TILES)
    for precision, part in (("tf32", 0.85), ("bf16", 1.0))
}

# Of 128 units and 128 rows no more than two layers would fit.
PASS_SHAPES = (PassShape(32, 32),) if SIMULATED else (PassShape(32, 128), PassShape(64, 128), PassShape(128, 64))
STATIONARY = None if SIMULATED else StationaryShape(8, 7)  # the simulator has no grids of several blocks
BUFFERS = 4  # minibatches that are gathered, waited for or at work there
MOST_PARTS = 132  # multiprocessors of the device that the library was made for: sums are a matter of shapes alone
REDUCED = 128  # parameters that a block sums over the parts, a vector a lane


def shapes(real: Any, precision: str = "float32") -> tuple[TileShape, ...]:
    """The tiles that there are for a dtype and a precision."""
    if precision != "float32":
        return WARP_SHAPES[precision]
    return tuple(s for s in SHAPES if s.rows_each * s.columns_each * np.dtype(real).itemsize <= 256)


def resident_shapes(real: Any, precision: str = "float32") -> tuple[TileShape, ...]:
    """Those for networks that stay in one block's shared memory."""
    return tuple(s for s in shapes(real, precision) if s.slices > 1 and precision == "float32")


def fields(integers: str, reals: str = "") -> np.dtype:
    """A record of 8-byte numbers with these names."""
    names = [(n, np.int64) for n in integers.split()] + [(n, np.float64) for n in reals.split()]
    return np.dtype(names, align=True)  # else CUDA Python reads them byte by byte


# A layer of weights: its widths, f, and the places of W, b (in the model), a and delta below and above (in the room);
# rows of W lie out_stride apart, those of a and delta below in_stride, above out_stride. Then the same as products read
# them, in words of 32 bits: the strides, and the places of W, a and delta.
LAYER = fields(
    "n_in n_out in_stride out_stride activation weights biases a_in a_out d_in d_out bottom hidden "
    "in_words out_words weights_read a_in_read a_out_read d_out_read"
)

# An operation: its kind, layer (of weights), tiles and slices of examples, where its tasks begin in the stage; for
# GATHER the chunk it brings (0: this one, 1: the next) and the rows of a task.
OPERATION = fields("kind layer rows columns slices slice_rows first_task ahead task_rows lanes updates")

# A stage: its operations, its tasks; if it is fused, how many blocks share the tiles of some rows, else 0; and whether
# only a minibatch's last chunk needs it.
STAGE = fields("first_operation last_operation tasks fused last_only")

STEP = fields(
    # places in shared memory: of the stages, operations, layers (records) and the ring (bytes)
    "stages_at operations_at layers_at ring_at "
    # the network's layers of weights; the program's stages, and how many of them are for the first chunk only; the
    # chunks to be run, the latter excluded
    "n_layers n_stages first_stages from_chunk to_chunk "
    # the epoch: examples, in a minibatch, in a chunk, chunks of a minibatch
    "m batch_size chunk_rows chunks_each "
    # the data: kinds; columns of X; whether there are targets, an order, weights and offsets of the losses; which
    # example of the epoch is the first on the device
    "x_kind t_kind x_columns has_targets ordered weighted has_offsets x_begin "
    # places of T in the data; of labels, indptr and columns in the index; of what is added to losses in the weights
    "targets_data labels indptr columns offsets "
    # settings; how many blocks own hidden units (stationary.py)
    "owners rule loss threshold dropout_seed l2_per_example largest slices "
    # places in the model: the end of W, the numbers in all, the copy of W in bfloat16 (in words), the moments
    "weights_end parameters low first second "
    # places in the room: what the next chunk's inputs, targets and weights are further on; U and V, h; a and moments of
    # stationary.py
    "bottom_size targets targets_size row_weights rows gradients out published moments "
    # places in the sums: W^2, squared gradients and how many, inputs and weights that are not finite, rates
    "squares norms n_norms bad_input bad_weight rates",
    "keep l2 learning_rate momentum beta_1 beta_2 epsilon weight_decay max_norm lowest_loss highest_loss",
)


def lanes(real: Any) -> int:
    """Numbers in a vector."""
    return VECTOR_BYTES // np.dtype(real).itemsize


def padded(count: int, multiple: int) -> int:
    """count rounded up to a multiple."""
    return -(-count // multiple) * multiple


def tables(step: np.ndarray, stages: np.ndarray, operations: np.ndarray, layers: np.ndarray) -> np.ndarray:
    """The tables as they lie in shared memory from the place of the step on, as words of 8 bytes; fills in the step.

    Each lies at a multiple of its records' size. What is known of a chunk (see work.py) lies before the step, in the
    space of another one; the ring behind them all.
    """
    end, begins = 2 * STEP.itemsize, []
    for name, records in (("stages_at", stages), ("operations_at", operations), ("layers_at", layers)):
        begin = padded(end, records.itemsize)
        begins.append(begin)
        step[0][name] = begin // records.itemsize
        end = begin + records.nbytes
    step[0]["ring_at"] = padded(end, VECTOR_BYTES)
    step[0]["n_layers"] = len(layers)
    words = np.zeros((padded(end, VECTOR_BYTES) - STEP.itemsize) // 8, np.int64)
    for begin, records in zip(begins, (stages, operations, layers)):
        at = (begin - STEP.itemsize) // 8
        words[at : at + records.nbytes // 8] = records.view(np.int64)
    words[: STEP.itemsize // 8] = step.view(np.int64)
    return words


def blocks_each(real: Any, shape: StagedShape) -> int:
    """Blocks that are to fit on a multiprocessor, as many as the registers of their sums allow."""
    if isinstance(shape, WarpShape):
        return shape.blocks
    if isinstance(shape, PassShape):
        return 1
    return 1 if np.dtype(real).itemsize == 8 or shape.rows_each == 8 else 2


class Machine(NamedTuple):
    """What the cost rule knows of a device; as they stand here, figures of an H100 from its data sheet or guessed."""

    multiprocessors: int = 132
    shared_bytes: int = 232448  # that a block may have
    multiprocessor_bytes: int = 233472  # of shared memory, for all blocks that it has at once
    frequency: float = 1.7e9  # Hz
    lanes: int = 128  # multiply-adds a cycle of a multiprocessor, in float32
    double_share: float = 0.5  # of them in float64
    tensor_lanes: int = 1024  # the same on tensor cores, in TF32; in bfloat16 twice as many
    l2_bytes: float = 3400.0  # that all multiprocessors read a cycle, and one
    l2_bytes_each: float = 64.0
    entry_cycles: float = 40.0  # of a lane, for an entry of a tile that is multiplied: f or an update, and its stores
    tile_seconds: float = 0.7e-6  # of a tile beside its work: the first terms' way, the sums' to memory
    stage_seconds: float = 0.3e-6
    barrier_seconds: float = 1.0e-6

    def blocks_at_once(self, real: Any, shape: TileShape) -> int:
        """Blocks of a shape that a multiprocessor has at once."""
        each = ring_size(shape, real) * np.dtype(real).itemsize + TABLES_BYTES
        return max(1, min(blocks_each(real, shape), self.multiprocessor_bytes // each))

    def product_seconds(self, shape: TileShape, depth: int, tiles: int, real: Any, blocks: int) -> float:
        """Seconds for so many tiles of `depth` terms, dealt to the multiprocessors, each with some at a time.

        `blocks` work on them in all: tensor cores wait where a multiprocessor has less than it could.
        """
        size, entries = np.dtype(real).itemsize / shape.per_word, shape.rows * shape.columns
        at_once = self.blocks_at_once(real, shape)
        if isinstance(shape, WarpShape):
            occupied = min(at_once, math.ceil(blocks / self.multiprocessors)) / shape.blocks
            rate = self.tensor_lanes * shape.per_word * shape.share * (1 + occupied) / 2
        else:
            rate = self.lanes * (1.0 if size == 4 else self.double_share) * shape.share
        bytes_each = min(self.l2_bytes_each, self.l2_bytes / min(tiles, self.multiprocessors))
        terms = padded(depth, shape.depth(real))
        cycles = max(entries / rate, (shape.rows + shape.columns) * size / bytes_each) * terms
        cycles += entries * self.entry_cycles / self.lanes
        alone = math.ceil(tiles / self.multiprocessors / at_once) * self.tile_seconds
        return alone + math.ceil(tiles / self.multiprocessors) * cycles / self.frequency

    def stationary_seconds(self, shape: StationaryShape, n_in: int, moments: int) -> float:
        """Seconds of a step where blocks keep their W: products, moments read and written, the rest, and the wait."""
        products = 2 * math.ceil(n_in / 16 / shape.warps) * 2 * shape.warps  # of two warps, which share tensor cores
        cycles = products * 16 * 8 * 16 / (2 * self.tensor_lanes / 4 * PASS_SHARE)
        numbers = min(16 * n_in + 16 * 16 * shape.warps, shape.entries * shape.threads)
        cycles += 2 * 4 * numbers * moments / self.l2_bytes_each
        return self.barrier_seconds + STATIONARY_SECONDS + cycles / self.frequency

    def pass_seconds(self, shape: PassShape, n_layers: int, parts: int, tiles_each: int, parameters: int) -> float:
        """Seconds for all layers of the parts, and for summing their U and V."""
        entries, products = shape.rows * shape.width, 3 * n_layers - 1
        cycles = products * entries * shape.width / (2 * self.tensor_lanes * PASS_SHARE)
        cycles += n_layers * entries * self.entry_cycles / self.lanes
        alone = 2 * n_layers * PASS_STEP_SECONDS
        busy = math.ceil(parts / self.multiprocessors) * tiles_each * (cycles / self.frequency + alone)
        bytes_each = min(self.l2_bytes_each, self.l2_bytes / min(parts, self.multiprocessors))
        written = math.ceil(parts / self.multiprocessors) * 4 * parameters / bytes_each
        read = 4 * parameters * parts / min(self.l2_bytes, self.l2_bytes_each * -(-parameters // REDUCED))
        return busy + (written + read) / self.frequency + 2 * self.tile_seconds


class Layout(NamedTuple):
    """The layers and the numbers that they need."""

    layers: np.ndarray
    weights_end: int
    parameters: int
    low: int  # words of the copy of W in bfloat16, behind the parameters


@functools.lru_cache(maxsize=256)
def layout(sizes: tuple[int, ...], activation: str, output: str, real: Any, precision: str = "float32") -> Layout:
    """Where W and b of each layer lie in the model: all W, all b, and, where that is multiplied, W in bfloat16."""
    layers = np.zeros(len(sizes) - 1, LAYER)
    place, per_word = 0, 2 if precision == "bf16" else 1
    multiple = lanes(real) * per_word
    for number, (layer, n_in, n_out) in enumerate(zip(layers, sizes, sizes[1:])):
        layer["n_in"], layer["n_out"] = n_in, n_out
        layer["in_stride"], layer["out_stride"] = padded(n_in, multiple), padded(n_out, multiple)
        layer["in_words"], layer["out_words"] = layer["in_stride"] // per_word, layer["out_stride"] // per_word
        layer["bottom"], layer["hidden"] = number == 0, number < len(layers) - 1
        layer["activation"] = activation_code(activation if layer["hidden"] else output)
        layer["weights"] = place
        place += n_in * int(layer["out_stride"])
    weights_end = place
    for layer in layers:
        layer["biases"] = place
        place += int(layer["out_stride"])
    for layer in layers:
        layer["weights_read"] = layer["weights"] if per_word == 1 else place + layer["weights"] // per_word
    return Layout(layers, weights_end, place, 0 if per_word == 1 else weights_end // per_word)


class Plan(NamedTuple):
    """The program of a chunk and the room that it needs."""

    shape: AnyShape
    layers: np.ndarray  # with the places of a and delta
    operations: np.ndarray
    stages: np.ndarray
    first_stages: int
    places: dict[str, int]  # what goes into the step
    room: int  # numbers of the network's dtype
    sums: int  # float64
    tasks: int  # the most that a stage has
    seconds: float  # a guess
    resident: bool  # whether one block does it all, in shared memory
    rows: int


class Program:
    """Stages and operations as they are put together."""

    def __init__(self, shape: StagedShape, layers: np.ndarray, rows: int, real: Any, machine: Machine):
        self.shape, self.layers, self.rows, self.real, self.machine = shape, layers, rows, real, machine
        self.row_tiles = -(-rows // shape.rows)
        self.operations: list[dict[str, int]] = []
        self.stages: list[dict[str, int]] = []
        self.seconds = 0.0

    def operation(self, kind: int, layer: int = 0, **values: int) -> dict[str, int]:
        """An operation on the examples: tiles of rows by tiles of columns."""
        n_in, n_out = (int(self.layers[layer][name]) for name in ("n_in", "n_out"))
        columns = {FORWARD: n_out, BACKWARD: n_in}.get(kind, 1)
        result = {"kind": kind, "layer": layer, "rows": self.row_tiles, "columns": -(-columns // self.shape.columns)}
        return result | {"slices": 1} | values

    def tasks(self, operation: dict[str, int]) -> int:
        return operation["rows"] * operation["columns"] * operation["slices"]

    def cost(self, operation: dict[str, int], fused: int) -> float:
        """Seconds of an operation, by itself or as a part of a fused stage whose rows so many blocks share."""
        layer = self.layers[operation["layer"]]
        depth = {FORWARD: layer["n_in"], BACKWARD: layer["n_out"], ACCUMULATE: operation.get("slice_rows", 0)}
        if operation["kind"] not in depth or isinstance(self.shape, PassShape):
            return self.machine.tile_seconds if fused else 0.0
        terms, machine = int(depth[operation["kind"]]), self.machine
        if not fused:
            tiles = self.tasks(operation)
            return machine.product_seconds(self.shape, terms, tiles, self.real, tiles)
        # a block has its columns one after the other, and nothing else is done beside a tile's terms
        blocks, columns = operation["rows"] * fused, math.ceil(operation["columns"] / fused)
        tiles = blocks if columns == 1 else math.ceil(blocks / machine.multiprocessors) * machine.multiprocessors
        return columns * machine.product_seconds(self.shape, terms, tiles, self.real, blocks)

    def stage(self, operations: list[dict[str, int]], fused: int = 0, last_only: bool = False) -> None:
        """Add a stage; its operations' tasks follow one another, unless they are fused.

        Where several blocks share rows, each does all but the last operation for itself. These write the same numbers
        whenever they are done, and none of them overwrites what another has read.
        """
        if not operations:
            return
        first, tasks = len(self.operations), 0
        for operation in operations:
            self.operations.append(operation | {"first_task": 0 if fused else tasks})
            tasks = operation["rows"] * fused if fused else tasks + self.tasks(operation)
            self.seconds += self.cost(operation, fused)
        self.seconds += self.machine.barrier_seconds + self.machine.stage_seconds
        stage = {"first_operation": first, "last_operation": len(self.operations), "tasks": tasks}
        self.stages.append(stage | {"fused": fused, "last_only": int(last_only)})


def table(rows: list[dict[str, int]], kind: np.dtype) -> np.ndarray:
    """Dicts as records."""
    result = np.zeros(max(1, len(rows)), kind)
    for record, row in zip(result, rows):
        for name, value in row.items():
            record[name] = value
    return result


def slices_of(shape: TileShape, layers: np.ndarray, rows: int, machine: Machine, real: Any) -> int:
    """Slices of the examples for U and V: as many as occupy the device, none of less than a few steps.

    They are a matter of shapes alone: the same plan gives the same sums on every device.
    """
    tiles = sum(-(-int(l["n_in"]) // shape.rows) * -(-int(l["n_out"]) // shape.columns) for l in layers)
    places = 132 * blocks_each(real, shape)  # of the device that the library was made for
    steps = 4 if isinstance(shape, WarpShape) else 16  # a step of a warp's tile has more terms
    most = max(1, min(places // min(tiles, places) + 2, rows // (steps * shape.depth(real))))
    # the share of the terms that a place gets in all, and what each slice costs to add
    return min(range(1, most + 1), key=lambda n: math.ceil(tiles * n / places) / n + n / 1000)


def threads_a_row(n_in: int, threads: int, real: Any) -> int:
    """How many threads of a block gather a row of X: a power of 2, of a vector each."""
    vectors, found = -(-n_in // lanes(real)), 1
    while found < min(vectors, threads):
        found *= 2
    return found


def blocks_that_share(program: Program, fused: list[dict[str, int]]) -> int:
    """How many blocks share the rows of a stage of the output's layer alone, forward and back: those of the cheaper."""
    *before, last = [operation["columns"] for operation in fused]
    choices = [1, last] if set(before) == {1} else [1]
    return min(choices, key=lambda blocks: sum(program.cost(operation, blocks) for operation in fused))


def build(
    shape: TileShape,
    base: Layout,
    rows: int,
    chunks_each: int,
    rule: int,
    clip: bool,
    split: int,
    real: Any,
    machine: Machine,
) -> Plan:
    """The plan with tiles of a shape that runs the first `split` layers one after the other, and fuses the rest."""
    layers, n_layers = base.layers.copy(), len(base.layers)
    training = rule not in (EVALUATE, PREDICT)
    program = Program(shape, layers, rows, real, machine)
    operation, ahead = program.operation, int(split > 0 and training)
    first = int(layers[0]["n_in"])
    line = threads_a_row(first, shape.threads, real)
    few = max(1, min(shape.rows, 1024 // max(first, 1)))
    gather = {"lanes": line, "task_rows": few if split else shape.rows}
    gather |= {"rows": -(-rows // gather["task_rows"])}
    first_stages = 0
    if split:
        program.stage([operation(GATHER, **gather)])
        first_stages = ahead
        program.seconds *= 1 - ahead  # once an epoch
    for l in range(split):  # the next chunk's inputs come while blocks are free
        next_gather = [operation(GATHER, ahead=1, **gather)] if ahead and l == 0 else []
        program.stage([operation(FORWARD, l), *next_gather])
    fused = [] if split else [operation(GATHER, **gather)]
    fused += [operation(FORWARD, l) for l in range(split, n_layers)]
    fused += [operation(OUTPUT if rule == PREDICT else OUTPUT_DELTA, n_layers - 1)]
    if training:
        fused += [operation(BACKWARD, l) for l in range(n_layers - 1, max(split, 1) - 1, -1)]
    program.stage(fused, fused=blocks_that_share(program, fused) if training and split == n_layers - 1 else 1)
    slices, norms, squares = 1, 0, 0
    if training:
        for l in range(min(split, n_layers) - 1, 0, -1):
            program.stage([operation(BACKWARD, l)])
        slices = slices_of(shape, layers, rows, machine, real)
        at_once = slices == 1 and chunks_each == 1 and not clip and rule != STORE
        sums = []
        each = {"slices": slices, "slice_rows": padded(-(-rows // slices), shape.depth(real)), "updates": int(at_once)}
        for l in range(n_layers):
            columns = -(-int(layers[l]["n_out"]) // bias_columns(shape))
            sums.append(operation(ACCUMULATE_BIAS, l, rows=1, columns=columns, **each))
        for l in range(n_layers):
            tiles = -(-int(layers[l]["n_in"]) // shape.rows), -(-int(layers[l]["n_out"]) // shape.columns)
            sums.append(operation(ACCUMULATE, l, rows=tiles[0], columns=tiles[1], **each))
        squares = sum(program.tasks(o) for o in sums)
        program.stage(sums)
        if not at_once:
            few = 1 if base.parameters < 512 * shape.threads else 4
            flat = -(-base.parameters // (few * shape.threads))
            squares, norms = max(squares, flat), flat if clip and rule != STORE else 0
            for kind in [MEASURE, UPDATE] if norms else [UPDATE]:
                program.stage([operation(kind, rows=flat, task_rows=few)], last_only=True)
    row_tiles = program.row_tiles
    places = {"bottom_size": 0, "targets_size": 0, "rows": 0, "slices": slices}
    copies, room = 1 + ahead, 0

    def take(numbers: int) -> int:
        nonlocal room
        place, room = room, room + padded(numbers, lanes(real))
        return place

    low, per_word = shape.per_word > 1, shape.per_word
    sizes = [rows * int(layers[0]["in_stride"]), *(rows * int(l["out_stride"]) for l in layers)]
    bottom_size = sizes[0] // per_word
    below = below_read = take(copies * bottom_size)
    if ahead:
        places |= {"bottom_size": bottom_size, "targets_size": sizes[-1], "rows": padded(rows, lanes(real))}
    for layer, size in zip(layers, sizes[1:]):
        layer["a_in"], layer["a_out"] = below, take(size)
        layer["a_in_read"] = below_read
        layer["a_out_read"] = take(size // per_word) if low and layer["hidden"] else layer["a_out"]
        below, below_read = layer["a_out"], layer["a_out_read"]
    if rule != PREDICT:
        places["targets"] = take(copies * sizes[-1])
        places["row_weights"] = take(copies * padded(rows, lanes(real)))
        for l, layer in enumerate(layers):
            layer["d_in"] = layers[l - 1]["d_out"] if l else 0
            layer["d_out"] = take(sizes[l + 1]) if training or l == n_layers - 1 else 0
            layer["d_out_read"] = take(sizes[l + 1] // per_word) if low and training else layer["d_out"]
    if training and not (len(program.stages) and at_once):
        places["gradients"] = take(slices * base.parameters)
    sums_at = {"squares": row_tiles, "norms": row_tiles + squares, "n_norms": norms}
    sums_at |= {"bad_input": row_tiles + squares + norms, "bad_weight": row_tiles + squares + norms + 1}
    sums_at["rates"] = row_tiles + squares + norms + 2
    return Plan(
        shape,
        layers,
        table(program.operations, OPERATION),
        table(program.stages, STAGE),
        first_stages,
        places | sums_at,
        room,
        row_tiles + squares + norms + 2,
        max(s["tasks"] for s in program.stages),
        program.seconds,
        False,
        rows,
    )


def build_pass(
    shape: PassShape, base: Layout, rows: int, chunks_each: int, rule: int, clip: bool, real: Any, machine: Machine
) -> Plan:
    """The plan in which a block takes its part of a chunk's examples through all layers, and the parts are summed."""
    layers, n_layers = base.layers.copy(), len(base.layers)
    program = Program(shape, layers, rows, real, machine)
    operation, n_in = program.operation, int(layers[0]["n_in"])
    lanes_each = threads_a_row(n_in, shape.threads, real)
    gathered = GATHER_ROWS * max(1, shape.threads // lanes_each)  # rows that threads have on their way at once
    gather = {"lanes": lanes_each, "task_rows": gathered, "rows": -(-rows // gathered)}
    program.stage([operation(GATHER, **gather)])
    tiles_each = -(-program.row_tiles // MOST_PARTS)
    parts = -(-program.row_tiles // tiles_each)
    program.stage([operation(PASS, rows=parts, slice_rows=tiles_each * shape.rows)])
    at_once = chunks_each == 1 and not clip
    reduced = -(-base.parameters // REDUCED)
    program.stage(
        [
            operation(REDUCE, rows=reduced, slices=1, slice_rows=tiles_each * shape.rows, updates=int(at_once)),
            operation(GATHER, ahead=1, **gather),
        ]
    )
    squares, norms = reduced, 0
    if not at_once:
        flat = -(-base.parameters // shape.threads)
        squares, norms = max(squares, flat), flat if clip else 0
        for kind in [MEASURE, UPDATE] if norms else [UPDATE]:
            program.stage([operation(kind, rows=flat, task_rows=1)], last_only=True)
    sizes = {"inputs": rows * int(layers[0]["in_words"]), "targets": rows * int(layers[-1]["out_stride"])}
    sizes |= {"row_weights": rows, "gradients": (1 + parts) * base.parameters}
    places, room = {"bottom_size": 0, "targets_size": 0, "rows": 0, "slices": 1}, 0
    for name, size in sizes.items():
        places[name] = room
        room += padded(size, lanes(real))
    layers[0]["a_in_read"] = places.pop("inputs")
    places |= {"squares": parts, "norms": parts + squares, "n_norms": norms}
    places |= {name: parts + squares + norms + n for n, name in enumerate(("bad_input", "bad_weight", "rates"))}
    return Plan(
        shape,
        layers,
        table(program.operations, OPERATION),
        table(program.stages, STAGE),
        1,
        places,
        room,
        parts + squares + norms + 2,
        max(s["tasks"] for s in program.stages),
        program.seconds - machine.barrier_seconds - machine.stage_seconds  # the first stage is run once an epoch
        + machine.pass_seconds(shape, n_layers, parts, tiles_each, base.parameters),
        False,
        rows,
    )  # fmt: skip


def build_stationary(shape: StationaryShape, base: Layout, rows: int, rule: int, real: Any, machine: Machine) -> Plan:
    """The plan in which blocks keep the W of their hidden units, and others gather what comes next."""
    layers, moments = base.layers.copy(), MOMENTS.get(rule, 1)
    n_in, n_hidden = int(layers[0]["n_in"]), int(layers[0]["n_out"])
    owners = -(-n_hidden // shape.columns)
    lanes_each = threads_a_row(n_in, shape.threads, real)
    gathered = GATHER_ROWS * max(1, shape.threads // lanes_each)
    gather = {"kind": GATHER, "lanes": lanes_each, "task_rows": gathered, "rows": -(-rows // gathered)}
    tasks = min(owners + BUFFERS * gather["rows"], machine.multiprocessors)
    each = {"bottom_size": rows * int(layers[0]["in_words"]), "targets_size": rows * int(layers[1]["out_stride"])}
    each = {name: padded(size, lanes(real)) for name, size in (each | {"rows": rows}).items()}
    sizes = dict(zip(("inputs", "targets", "row_weights"), (BUFFERS * size for size in each.values())))
    sizes |= {"published": 2 * shape.published, "moments": moments * owners * shape.entries * shape.threads}
    places, room = each | {"owners": owners}, 0
    for name, size in sizes.items():
        places[name] = room
        room += padded(size, lanes(real))
    layers[0]["a_in_read"] = places.pop("inputs")
    norms = (1 + owners) * shape.threads  # slots of the losses, then of each block's W^2
    places |= {"squares": shape.threads, "norms": norms, "n_norms": 0}
    places |= {name: norms + n for n, name in enumerate(("bad_input", "bad_weight", "rates"))}
    return Plan(
        shape,
        layers,
        table([gather], OPERATION),
        table([{"last_operation": 1, "tasks": tasks}], STAGE),
        0,
        places,
        room,
        norms + 2,
        tasks,
        machine.stationary_seconds(shape, n_in, moments),
        False,
        rows,
    )


def bias_columns(shape: TileShape) -> int:
    """Columns of V that a block sums: each with threads enough for the rows."""
    return max(1, min(32, shape.threads // 2))


def ring_size(shape: TileShape, real: Any) -> int:
    """Numbers of shared memory in which the factors of a tile pass by; their sums are collected there, too."""
    if isinstance(shape, WarpShape):
        return shape.ring_words()
    return shape.stages * (shape.rows + shape.columns) * (shape.depth(real) + lanes(real))


def shared_bytes(plan: Plan, real: Any, numbers: int = 0) -> int:
    """Shared memory of a block: for the tables, the ring, and so many more numbers."""
    step = np.zeros(1, STEP)
    tables(step, plan.stages, plan.operations, plan.layers)
    shape = plan.shape
    if isinstance(shape, PassShape):
        ring = shape.ring_words(len(plan.layers))
    elif isinstance(shape, StationaryShape):
        ring = shape.ring_words(int(plan.layers[0]["n_in"]))
    else:
        ring = ring_size(shape, real)
    return int(step[0]["ring_at"]) + (ring + numbers) * np.dtype(real).itemsize


@functools.lru_cache(maxsize=256)
def plan(
    sizes: tuple[int, ...],
    activation: str,
    output: str,
    real: Any,
    rows: int,
    chunks_each: int,
    rule: int,
    clip: bool,
    machine: Machine,
    precision: str = "float32",
) -> Plan:
    """The fastest plan by the machine's figures, for chunks of `rows` examples, `chunks_each` of them a minibatch.

    A network whose parameters, moments and chunk fit one block's shared memory stays there for the whole epoch if one
    multiprocessor is faster than all of them with their barriers.
    """
    base = layout(sizes, activation, output, real, precision)
    found = []
    for shape in shapes(real, precision):
        for split in range(len(sizes)):
            found.append(build(shape, base, rows, chunks_each, rule, clip, split, real, machine))
    if precision == "bf16" and rule not in (PREDICT, EVALUATE, STORE):
        for wide in [s for s in PASS_SHAPES if max(sizes) <= s.width][:1]:
            found.append(build_pass(wide, base, rows, chunks_each, rule, clip, real, machine))
        if STATIONARY and chunks_each == 1 and not clip and STATIONARY.takes(sizes, rows):
            kept = build_stationary(STATIONARY, base, rows, rule, real, machine)
            if kept.tasks > kept.places["owners"]:
                found.append(kept)
    alone = machine._replace(multiprocessors=1, l2_bytes_each=128.0, barrier_seconds=0.05e-6, tile_seconds=0.3e-6)
    for shape in resident_shapes(real, precision):
        one = build(shape, base, rows, chunks_each, rule, clip, 0, real, alone)
        numbers = 3 * base.parameters + one.room
        fits = shared_bytes(one, real, numbers) <= machine.shared_bytes
        if fits and chunks_each == 1 and rule not in (PREDICT, EVALUATE, STORE):
            found.append(one._replace(resident=True))
    found = [p for p in found if shared_bytes(p, real) <= machine.shared_bytes]
    if not found:
        raise ValueError(f"sizes has {len(sizes)} layers; a GPU's shared memory does not hold the plan of so many")
    return min(found, key=lambda p: p.seconds)
