"""Whole epochs on the device: the stages of layout.plan for one chunk of examples after another.

`make_epoch` runs them in one cooperative kernel, with a barrier of all blocks behind each stage, or, for a network
that one block's shared memory holds, in one block without any; `make_stage` runs one stage, for a CUDA graph in which
each stage is a kernel. Where blocks keep their W (stationary.py) there are no stages, but another kernel.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import cuda, from_dtype, types

from fastmlp.cuda.accumulate import make_accumulate, make_whole
from fastmlp.cuda.backward import make_backward, make_output
from fastmlp.cuda.barrier import BASE, barrier
from fastmlp.cuda.compiling import device, kernel
from fastmlp.cuda.forward import make_forward
from fastmlp.cuda.fused import make_pass, make_reduce
from fastmlp.cuda.gather import make_gather
from fastmlp.cuda.layout import (
    ACCUMULATE,
    ACCUMULATE_BIAS,
    BACKWARD,
    FORWARD,
    GATHER,
    GATHER_ROWS,
    LAYER,
    MEASURE,
    OPERATION,
    OUTPUT_DELTA,
    PASS,
    REDUCE,
    STAGE,
    STEP,
    UPDATE,
    AnyShape,
    PassShape,
    StagedShape,
    StationaryShape,
    TileShape,
    blocks_each,
    ring_size,
)
from fastmlp.cuda.ptx import flat, quotient, thread
from fastmlp.cuda.stationary import make_stationary
from fastmlp.cuda.work import BARRIERS, EXAMPLES, IN_MINIBATCH, MINIBATCH, NUMBER, OFFSET, PARITY, Work


class Supplied(NamedTuple):
    """What users have supplied of a network: f of its hidden layers and of its output, and the loss."""

    activation: Any = None
    output: Any = None
    loss: Any = None


NOTHING = Supplied()


@device
def open_chunk(chunk, step, number):
    """Write down what is known of the chunk of a number; all threads of the block call it."""
    if thread() == 0:
        minibatch = quotient(number, step.chunks_each)
        in_minibatch = min(step.batch_size, step.m - minibatch * step.batch_size)
        offset = (number - minibatch * step.chunks_each) * step.chunk_rows
        chunk[NUMBER], chunk[MINIBATCH], chunk[OFFSET] = number, minibatch, offset
        chunk[EXAMPLES] = min(step.chunk_rows, in_minibatch - offset)
        chunk[IN_MINIBATCH], chunk[PARITY] = in_minibatch, number % 2
    cuda.syncthreads()


@functools.cache
def make_tiled(real: type, shape: TileShape, resident: bool, supplied: Supplied):
    """The function that does a tile of an operation in which layers are taken one after the other."""
    forward = make_forward(real, shape, resident, supplied.activation)
    backward = make_backward(real, shape, resident, supplied.activation)
    output_delta, output = make_output(real, shape, supplied.output, supplied.loss)
    (accumulate, accumulate_bias), (measure, update_all) = (
        make_accumulate(real, shape, resident), make_whole(real, shape.threads, shape.per_word)
    )  # fmt: skip

    @device
    def run_tile(work, operation, chunk, row, column, part, task):
        if operation.kind == FORWARD:
            forward(work, operation.layer, chunk, row, column)
        elif operation.kind == OUTPUT_DELTA:
            output_delta(work, operation.layer, chunk, row, part)
        elif operation.kind == BACKWARD:
            backward(work, operation.layer, chunk, row, column)
        elif operation.kind == ACCUMULATE:
            accumulate(work, operation, chunk, row, column, part, task)
        elif operation.kind == ACCUMULATE_BIAS:
            accumulate_bias(work, operation, chunk, column, part)
        elif operation.kind == MEASURE:
            measure(work, operation, chunk, row)
        elif operation.kind == UPDATE:
            update_all(work, operation, chunk, row)
        else:
            output(work, operation.layer, chunk, row)

    return run_tile


@functools.cache
def make_passing(shape: PassShape, supplied: Supplied):
    """The same where a block takes its examples through all layers."""
    pass_examples, reduce = make_pass(shape, supplied), make_reduce(shape)
    measure, update_all = make_whole(np.float32, shape.threads, shape.per_word)

    @device
    def run_part(work, operation, chunk, row, column, part, task):
        if operation.kind == PASS:
            pass_examples(work, operation, chunk, row)
        elif operation.kind == REDUCE:
            reduce(work, operation, chunk, row)
        elif operation.kind == MEASURE:
            measure(work, operation, chunk, row)
        else:
            update_all(work, operation, chunk, row)

    return run_part


@functools.cache
def make_task(real: type, shape: StagedShape, resident: bool, supplied: Supplied):
    """The function that does a task of a stage."""
    if isinstance(shape, PassShape):
        gather, run_tile = make_gather(real, shape.per_word, GATHER_ROWS), make_passing(shape, supplied)
    else:
        gather, run_tile = make_gather(real, shape.per_word), make_tiled(real, shape, resident, supplied)
    rows = shape.rows

    @device
    def run_task(work, chunk, operations, stage, task, number):
        """Do a task of a stage for a chunk: one tile of one operation, or all of a fused stage for a tile of rows.

        Where blocks share the rows, each has a share of the last operation's columns of tiles, and does all of those
        before, which have one column: all blocks write the same numbers there, and none changes what others read.
        """
        step, o = work.step, stage.first_operation
        while not stage.fused and o + 1 < stage.last_operation and operations[o + 1].first_task <= task:
            o += 1
        while True:  # what could be read again is, here and below: it would fill registers while a tile is multiplied
            operation = operations[o]
            open_chunk(chunk, step, number + operation.ahead)
            row, column, part = task - operation.first_task, 0, 0
            if stage.fused:
                row = quotient(task, stage.fused)
                part = task - row * stage.fused
                column = part if operation.columns > 1 else 0
            else:
                tile = quotient(row, operation.columns)
                column = row - tile * operation.columns
                part = quotient(tile, operation.rows)
                row = tile - part * operation.rows
            if operation.kind == GATHER:
                if chunk[NUMBER] < step.to_chunk and row * operation.task_rows < chunk[EXAMPLES]:
                    gather(work, operation, chunk, row * operation.task_rows)
            elif operation.kind >= ACCUMULATE or row * rows < chunk[EXAMPLES]:
                while True:
                    run_tile(work, operation, chunk, row, column, part, task)
                    column += stage.fused
                    if not stage.fused or column >= operation.columns:
                        break
            cuda.syncthreads()  # the next operation reads what this one wrote
            o += 1
            if not stage.fused or o == stage.last_operation:
                break

    return run_task


def blocks_of(real: type, shape: StagedShape, resident: bool) -> int:
    """Blocks of a kernel that are to fit on a multiprocessor."""
    return 1 if resident else blocks_each(real, shape)


@functools.cache
def make_tables(real: type):
    """The function that brings a kernel's tables to shared memory, where reading them costs little."""
    number_type = from_dtype(np.dtype(real))
    step_type, stage_type, operation_type, layer_type = map(from_dtype, (STEP, STAGE, OPERATION, LAYER))
    size, before = np.dtype(real).itemsize, STEP.itemsize // 8

    @device
    def open_tables(tables):
        """(steps, stages, operations, layers, chunk, ring, partial), all in shared memory; the step is steps[1]."""
        words = cuda.shared.array(0, types.int64)
        for n in range(thread(), tables.size, cuda.blockDim.x):
            words[before + n] = tables[n]
        cuda.syncthreads()
        steps = flat(cuda.shared.array(0, step_type))
        step = steps[1]
        stages = flat(cuda.shared.array(0, stage_type)[step.stages_at :])
        operations = flat(cuda.shared.array(0, operation_type)[step.operations_at :])
        layers = flat(cuda.shared.array(0, layer_type)[step.layers_at :])
        ring = cuda.shared.array(0, number_type)[step.ring_at // size :]
        partial = cuda.shared.array(0, types.float64)[step.ring_at // 8 :]
        return steps, stages, operations, layers, words, ring, partial

    return open_tables


@functools.cache
def make_epoch(real: type, shape: AnyShape, resident: bool, supplied: Supplied = NOTHING):
    """The kernel for the chunks step.from_chunk <= number < step.to_chunk.

    resident: one block copies model and room to shared memory, works there, and writes the model back.
    """
    if isinstance(shape, StationaryShape):
        return make_stationary_epoch(shape, supplied)
    run_task, open_tables = make_task(real, shape, resident, supplied), make_tables(real)
    threads, zero = shape.threads, real(0)
    ring_numbers = 0 if isinstance(shape, PassShape) else ring_size(shape, real)

    @kernel(threads, blocks_of(real, shape, resident))
    def epoch(tables, model, room, data, byte_data, integers, weights, sums, counters):
        steps, stages, operations, layers, chunk, ring, partial = open_tables(tables)
        step, own_model, own_room = steps[1], model, room
        if resident:
            own_model = ring[ring_numbers : ring_numbers + model.size]
            own_room = ring[ring_numbers + model.size : ring_numbers + model.size + room.size]
            for n in range(thread(), model.size, threads):
                own_model[n] = model[n]
            for n in range(thread(), room.size, threads):
                own_room[n] = zero
        work = Work(
            step, layers, flat(own_model), flat(own_room), flat(ring), flat(partial), flat(data), flat(byte_data),
            flat(integers), flat(weights), flat(sums),
        )  # fmt: skip
        if thread() == 0:
            chunk[BARRIERS] = 0
        cuda.syncthreads()
        number, s = step.from_chunk, 0
        while number < step.to_chunk:
            while s < step.n_stages:
                stage = stages[s]
                s += 1
                if stage.last_only and number % step.chunks_each < step.chunks_each - 1:
                    continue
                task = cuda.blockIdx.x
                while task < stage.tasks:
                    run_task(work, chunk, operations, stage, task, number)
                    task += cuda.gridDim.x
                if not resident:
                    barrier(counters, chunk)
            number += 1
            s = step.first_stages
        if resident:
            for n in range(thread(), model.size, threads):
                model[n] = own_model[n]

    return epoch


@functools.cache
def make_stationary_epoch(shape: StationaryShape, supplied: Supplied):
    """The same where blocks keep the W of their hidden units; step.owners of them, and at least one more."""
    (train, fill), open_tables = make_stationary(shape, supplied), make_tables(np.float32)

    @kernel(shape.threads, 1)
    def epoch(tables, model, room, data, byte_data, integers, weights, sums, counters):
        steps, stages, operations, layers, chunk, ring, partial = open_tables(tables)
        work = Work(
            steps[1], layers, flat(model), flat(room), flat(ring), flat(partial), flat(data), flat(byte_data),
            flat(integers), flat(weights), flat(sums),
        )  # fmt: skip
        if cuda.blockIdx.x < work.step.owners:
            train(work, operations[0], counters)
        else:
            fill(work, operations[0], counters)

    return epoch


@functools.cache
def make_stage(real: type, shape: StagedShape, supplied: Supplied = NOTHING):
    """The kernel for one stage of the chunk counters[BASE] + number, a block a task."""
    run_task, open_tables = make_task(real, shape, False, supplied), make_tables(real)

    @kernel(shape.threads, blocks_of(real, shape, False))
    def one_stage(s, number, tables, model, room, data, byte_data, integers, weights, sums, counters):
        steps, stages, operations, layers, chunk, ring, partial = open_tables(tables)
        work = Work(
            steps[1], layers, flat(model), flat(room), flat(ring), flat(partial), flat(data), flat(byte_data),
            flat(integers), flat(weights), flat(sums),
        )  # fmt: skip
        run_task(work, chunk, operations, stages[s], cuda.blockIdx.x, counters[BASE] + number)

    return one_stage


@kernel(32, 1)
def advance(counters, chunks):
    """Let the next graph begin so many chunks later."""
    if thread() == 0 and cuda.blockIdx.x == 0:
        counters[BASE] += chunks
