"""Launches of a plan's kernels: one cooperative kernel for many chunks, one block, or a graph of a kernel a stage."""

import functools
import math
from typing import Any

import numpy as np
from numba import cuda

from fastmlp.cuda.barrier import BASE, COUNTERS
from fastmlp.cuda.compiling import configured
from fastmlp.cuda.data import Arrays, copy, zeros
from fastmlp.cuda.epoch import NOTHING, Supplied, advance, make_epoch, make_stage
from fastmlp.cuda.graph import Graph
from fastmlp.cuda.layout import Machine, Plan, shared_bytes, tables
from fastmlp.cuda.ptx import SIMULATED

# A chunk that the cost rule gives more than this is launched stage by stage, in a graph: a kernel for each should cost
# about what a barrier does (not measured yet), each has the grid that it needs, and none waits for all of its blocks.
GRAPH_SECONDS = 100e-6
RECORDED_SECONDS = 10e-3  # of work in a graph, at the least
DEFAULT_SHARED_BYTES = 48 << 10  # more of it must be asked for

ALONE, COOPERATIVE, GRAPH, STAGES = "one block", "cooperative", "graph", "stages"

# The share of a multiprocessor's float32 multiply-adds that it has in float64, and how many those are a cycle.
DOUBLE_SHARES = {(8, 0): 0.5, (9, 0): 0.5, (10, 0): 0.5}
LANES = {(7, 5): 64, (8, 0): 64}
TENSOR_LANES = {(8, 0): 512, (9, 0): 1024, (10, 0): 1024}  # the same on tensor cores in TF32; the last one guessed


@functools.cache
def machine() -> Machine:
    """What the cost rule knows of the device in use."""
    if SIMULATED:
        return Machine(multiprocessors=2, shared_bytes=1 << 16)
    found = cuda.get_current_device()
    capability = tuple(found.compute_capability)[:2]
    return Machine(
        multiprocessors=found.MULTIPROCESSOR_COUNT,
        shared_bytes=found.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN - 1024,
        multiprocessor_bytes=found.MAX_SHARED_MEMORY_PER_MULTIPROCESSOR,
        frequency=found.CLOCK_RATE * 1e3,
        lanes=LANES.get(capability, 128),
        double_share=DOUBLE_SHARES.get(capability, 1 / 64),
        tensor_lanes=TENSOR_LANES.get(capability, 128),
    )


def mode_of(plan: Plan) -> str:
    """How a plan is launched: the library's rule."""
    if plan.resident:
        return ALONE
    return GRAPH if plan.seconds > GRAPH_SECONDS else COOPERATIVE


class Launch:
    """A plan with its arrays on the device.

    Parameters
    ----------
    plan : Plan
    real : type
        numpy.float32 or numpy.float64.
    model : device array
    step : ndarray of STEP
        One record; `run` sets the chunks in it.
    more_room, more_sums : int
        Numbers behind what the plan needs.
    supplied : Supplied
    """

    def __init__(
        self, plan: Plan, real: type, model: Any, step: np.ndarray, more_room: int = 0, more_sums: int = 0,
        supplied: Supplied = NOTHING,
    ):  # fmt: skip
        self.plan, self.real, self.model, self.step, self.supplied = plan, real, model, step, supplied
        self.mode = STAGES if SIMULATED and mode_of(plan) == GRAPH else mode_of(plan)
        self.room = zeros(max(1, plan.room + more_room), real)
        self.sums = cuda.to_device(np.zeros(plan.sums + more_sums))
        self.stream = cuda.stream()
        self.tables = cuda.to_device(self._tables())
        self.counters = cuda.to_device(np.zeros(COUNTERS, np.uint32))
        self.shared_bytes = shared_bytes(plan, real, model.size + self.room.size if plan.resident else 0)
        self._grid = 0
        self._kernel: Any = None
        self._configured: dict[Any, Any] = {}
        self._graphs: dict[tuple[int, int], Graph] = {}
        self._runs = 0
        each = int(step[0]["chunks_each"])
        self._recorded = each * max(1, math.ceil(RECORDED_SECONDS / plan.seconds / each))

    def use(self, model: Any) -> None:
        """Work on another array of the same size from here on."""
        if model is not self.model:
            assert model.size == self.model.size
            self.model = model
            self._graphs.clear()

    def run(self, first: int, last: int, arrays: Arrays) -> None:
        """Do the chunks first <= number < last of an epoch; they follow on the stream."""
        if first >= last:
            return
        self.step[0]["from_chunk"], self.step[0]["to_chunk"] = first, last
        for name, place in arrays.places.items():
            self.step[0][name] = place
        counters = np.zeros(COUNTERS, np.uint32)
        counters[BASE] = first
        self._copied = self._tables(), counters  # not freed before the copies are made
        for array, values in zip((self.tables, self.counters), self._copied):
            copy(array, values, self.stream)
        if self.mode in (ALONE, COOPERATIVE):
            arguments = self._arguments(arrays)
            if self._kernel is None:
                self._kernel, self._grid = self._compile(arguments)
            self._start(self._kernel, self._grid, self.plan.shape.threads, self.stream, self.shared_bytes)(*arguments)
            return
        self._stages(0, self.plan.first_stages, first, 0, arrays, self.stream)
        number, each = first, int(self.step[0]["chunks_each"])
        if self.mode == GRAPH and first % each == 0:
            for chunks in dict.fromkeys((self._recorded, each)):
                while number + chunks <= last and self._worth_recording(chunks, last - number - each, arrays):
                    number = self._graph(chunks, number, arrays)
        self._directly(number, last, arrays, self.stream)
        self._runs += 1

    def _worth_recording(self, chunks: int, left: int, arrays: Arrays) -> bool:
        """Whether a graph is there, or will be of use: to the rest of this run, or, not being the first, to others."""
        return (id(arrays), chunks) in self._graphs or left >= chunks or self._runs > 0

    def _graph(self, chunks: int, number: int, arrays: Arrays) -> int:
        """Do so many chunks by a graph, or, where there is none yet, a minibatch from here; returns what is next."""
        key = id(arrays), chunks
        if key in self._graphs:
            self._graphs[key].launch(self.stream)
            return number + chunks
        done = self._directly(number, number + int(self.step[0]["chunks_each"]), arrays, self.stream)
        keep = arrays, self.model, self.room
        self._graphs[key] = Graph(lambda stream: self._directly(0, chunks, arrays, stream), keep)
        return done

    def _start(self, kernel: Any, grid: int, threads: int, stream: Any, shared_bytes: int) -> Any:
        """A kernel configured to be launched."""
        if SIMULATED:
            return kernel[grid, threads, stream, shared_bytes]
        key = id(kernel), grid, int(stream.handle)
        if key not in self._configured:
            self._configured[key] = configured(kernel, grid, threads, stream, shared_bytes)
        return self._configured[key]

    def _tables(self) -> np.ndarray:
        return tables(self.step, self.plan.stages, self.plan.operations, self.plan.layers)

    def _arguments(self, arrays: Arrays) -> tuple[Any, ...]:
        data = arrays.reals, arrays.bytes, arrays.integers, arrays.weights
        return (self.tables, self.model, self.room, *data, self.sums, self.counters)

    def _compile(self, arguments: tuple[Any, ...]) -> tuple[Any, int]:
        """The epoch's kernel and how many blocks of it are to run."""
        kernel = self._specialized(make_epoch(self.real, self.plan.shape, self.plan.resident, self.supplied), arguments)
        if SIMULATED or self.plan.resident:
            return kernel, 1
        compiled = next(iter(kernel.overloads.values()))
        assert hasattr(compiled, "cooperative")  # CUDA Python's launch asks it
        compiled.cooperative = True  # its barrier is its own: it needs nothing of the library for cooperative kernels
        most = compiled.max_cooperative_grid_blocks(self.plan.shape.threads, self.shared_bytes)
        grid = min(self.plan.tasks, most)
        assert grid > self.plan.places.get("owners", 0)  # else nobody would gather
        return kernel, grid

    def _specialized(self, kernel: Any, arguments: tuple[Any, ...]) -> Any:
        """The kernel compiled for these arguments and allowed its shared memory."""
        kernel = kernel.specialize(*arguments)
        if self.shared_bytes > DEFAULT_SHARED_BYTES and not SIMULATED:
            from numba.cuda.cudadrv.driver import binding, driver

            function = next(iter(kernel.overloads.values()))._codelibrary.get_cufunc()
            attribute = binding.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            most = machine().shared_bytes  # not this plan's: others use the kernel, too
            driver.cuKernelSetAttribute(attribute, most, function.handle, function.device.id)
        return kernel

    def _stages(self, begin: int, end: int, number: int, ahead: int, arrays: Arrays, stream: Any) -> None:
        """Launch stages for a chunk: the one `ahead` of counters[BASE], whose number is known here, too."""
        arguments, threads = self._arguments(arrays), self.plan.shape.threads
        if self._kernel is None:
            self._kernel = self._specialized(make_stage(self.real, self.plan.shape, self.supplied), (0, 0, *arguments))
        last = (number + 1) % int(self.step[0]["chunks_each"]) == 0
        for s in range(begin, end):
            stage = self.plan.stages[s]
            if last or not stage["last_only"]:
                start = self._start(self._kernel, int(stage["tasks"]), threads, stream, self.shared_bytes)
                start(s, ahead, *arguments)

    def _directly(self, first: int, last: int, arrays: Arrays, stream: Any) -> int:
        """Launch the stages of some chunks from here, and let counters[BASE] follow; returns `last`."""
        for number in range(first, last):
            self._stages(self.plan.first_stages, len(self.plan.stages), number, number - first, arrays, stream)
        if last > first:
            self._start(advance, 1, 32, stream, 0)(self.counters, last - first)
        return last
