"""An NVIDIA GPU for a machine without one: a driver whose launches ptx_machine.py carries out.

    python tests/cuda_emulator.py [MULTIPROCESSORS] pytest ARGUMENTS
    python tests/cuda_emulator.py [MULTIPROCESSORS] FILE ARGUMENTS

Runs tests of the CUDA backend, or a program, as on a GPU, not in the simulator: the kernels are what the compiler makes
of them, down to PTX (NVIDIA's assembler is left out), and all between them and Python is what is there on a GPU, too.
The GPU has two multiprocessors, unless told otherwise, and its memory is a NumPy array. On Linux, with a C compiler,
which makes a library of two functions.
"""

# ruff: noqa: N802, N815  (the driver's own names)

import contextlib
import ctypes
import os
import pathlib
import runpy
import shutil
import subprocess
import sys
import tempfile
import traceback

import numpy as np
from ptx_machine import Fault, Kernel, Memory, launch

CAPABILITY = (9, 0)
BLOCKS_EACH = 4  # of a multiprocessor, at the most
SHARED_BYTES = 227 << 10
DRIVER = 13000  # of CUDA, times 1000
SUCCESS, INVALID, OUT_OF_MEMORY, NOT_FOUND, LAUNCH_FAILED = 0, 1, 2, 500, 719  # of CUresult
COOPERATIVE, MOST_SHARED = 2, 8  # of CUlaunchAttributeID, CUfunction_attribute

LIBRARY = """
static void *(*find)(const char *);
void answer_with(void *(*f)(const char *)) { find = f; }
int cuGetProcAddress_v2(const char *name, void **function, int version, unsigned long long flags, int *status)
{
    *function = find(name);
    if (status) *status = *function == 0;
    return *function ? 0 : 500;
}
"""

ERROR = ctypes.create_string_buffer(b"the emulator has refused or failed; it has said why before")
number, pointer, size_t, text = ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p


class LaunchConfiguration(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = [
        ("grid", ctypes.c_uint * 3), ("block", ctypes.c_uint * 3), ("shared_bytes", ctypes.c_uint), ("stream", pointer),
        ("attributes", pointer), ("n_attributes", ctypes.c_uint),
    ]  # fmt: skip


class Attribute(ctypes.Structure):
    """CUlaunchAttribute."""

    _fields_ = [("id", number), ("padding", number), ("value", ctypes.c_int * 16)]


def write(at, value, kind=ctypes.c_void_p):
    """*at = value."""
    if at:
        ctypes.cast(at, ctypes.POINTER(kind))[0] = value


class Driver:
    """The functions of the driver, by name; handles are numbers in `things`."""

    def __init__(self, multiprocessors):
        self.multiprocessors = multiprocessors
        self.memory, self.things, self.functions = Memory(), {1: "context", 2: "stream"}, {}
        self.contexts, self.host = [], {}
        self.recording, self.counts = {}, None  # counts: a ptx_machine.Counts, for who wants to know
        self._kernels = {}

    def handle(self, thing):
        """A new handle of a thing."""
        number = max(self.things) + 1
        self.things[number] = thing
        return number

    def address_of(self, name):
        """The address of a function as C knows it; 0 if there is none."""
        name = name.decode()
        if name not in self.functions:
            method = getattr(self, name, None)
            if method is None:
                return 0
            kinds = method.__annotations__.values()
            prototype = ctypes.CFUNCTYPE(number, *kinds)

            def call(*arguments):
                try:
                    code = method(*arguments)
                    return SUCCESS if code is None else code
                except Fault:
                    traceback.print_exc()
                    return LAUNCH_FAILED
                except Exception:
                    traceback.print_exc()
                    os._exit(70)

            self.functions[name] = prototype(call)
        return ctypes.cast(self.functions[name], pointer).value

    # ---- the device ------------------------------------------------------------------------------------------------

    def cuInit(self, flags: ctypes.c_uint):
        pass

    def cuDriverGetVersion(self, version: pointer):
        write(version, DRIVER, number)

    def cuDeviceGetCount(self, count: pointer):
        write(count, 1, number)

    def cuDeviceGet(self, device: pointer, n: number):
        write(device, n, number)

    def cuDeviceGetName(self, name: pointer, length: number, device: number):
        ctypes.memmove(name, b"Emulator\0", 9)

    def cuDeviceGetUuid(self, uuid: pointer, device: number):
        ctypes.memset(uuid, 7, 16)

    def cuDeviceGetAttribute(self, value: pointer, attribute: number, device: number):
        known = {
            75: CAPABILITY[0],
            76: CAPABILITY[1],
            16: self.multiprocessors,
            97: SHARED_BYTES,
            81: SHARED_BYTES + 1024,
        }
        known |= {13: 1_500_000, 10: 32, 1: 1024}
        write(value, known.get(attribute, 1), number)

    def cuDeviceTotalMem(self, size: pointer, device: number):
        write(size, len(self.memory.bytes), size_t)

    def cuDevicePrimaryCtxRetain(self, context: pointer, device: number):
        write(context, 1)

    def cuDevicePrimaryCtxRelease(self, device: number):
        pass

    def cuDevicePrimaryCtxReset(self, device: number):
        pass

    def cuDevicePrimaryCtxGetState(self, device: number, flags: pointer, active: pointer):
        write(flags, 0, number), write(active, 1, number)

    def cuCtxGetCurrent(self, context: pointer):
        write(context, self.contexts[-1] if self.contexts else 0)

    def cuCtxSetCurrent(self, context: pointer):
        self.contexts[-1:] = [context] if context else []

    def cuCtxPushCurrent(self, context: pointer):
        self.contexts.append(context)

    def cuCtxPopCurrent(self, context: pointer):
        write(context, self.contexts.pop())

    def cuCtxGetDevice(self, device: pointer):
        write(device, 0, number)

    def cuCtxGetId(self, context: pointer, found: pointer):
        write(found, 1, ctypes.c_ulonglong)

    def cuCtxSynchronize(self):
        pass

    def cuGetErrorName(self, code: number, name: pointer):
        write(name, ctypes.cast(ERROR, pointer).value)

    cuGetErrorString = cuGetErrorName

    # ---- memory ----------------------------------------------------------------------------------------------------

    def cuMemAlloc(self, at: pointer, size: size_t):
        address = self.memory.allocate(size)
        if address is None:
            return OUT_OF_MEMORY
        write(at, address)
        return SUCCESS

    def cuMemFree(self, address: pointer):
        self.memory.free(address)

    def cuMemGetInfo(self, free: pointer, total: pointer):
        size = len(self.memory.bytes)
        write(free, size - sum(self.memory.pieces.values()), size_t), write(total, size, size_t)

    def cuMemHostAlloc(self, at: pointer, size: size_t, flags: ctypes.c_uint):
        buffer = ctypes.create_string_buffer(max(1, size))
        self.host[ctypes.addressof(buffer)] = buffer
        write(at, ctypes.addressof(buffer))

    def cuMemFreeHost(self, address: pointer):
        del self.host[address]

    def cuMemcpyHtoD(self, target: pointer, source: pointer, size: size_t):
        if size:
            piece = self.memory.piece(target, size)
            piece[:] = np.frombuffer((ctypes.c_ubyte * size).from_address(source), np.uint8)

    def cuMemcpyDtoH(self, target: pointer, source: pointer, size: size_t):
        if size:
            ctypes.memmove(target, self.memory.piece(source, size).ctypes.data, size)

    def cuMemcpyDtoD(self, target: pointer, source: pointer, size: size_t):
        if size:
            self.memory.piece(target, size)[:] = self.memory.piece(source, size)

    def cuMemsetD8(self, target: pointer, value: ctypes.c_ubyte, size: size_t):
        if size:
            self.memory.piece(target, size)[:] = value

    def cuMemcpyHtoDAsync(self, target: pointer, source: pointer, size: size_t, stream: pointer):
        return self.cuMemcpyHtoD(target, source, size)

    def cuMemcpyDtoHAsync(self, target: pointer, source: pointer, size: size_t, stream: pointer):
        return self.cuMemcpyDtoH(target, source, size)

    def cuMemcpyDtoDAsync(self, target: pointer, source: pointer, size: size_t, stream: pointer):
        return self.cuMemcpyDtoD(target, source, size)

    def cuMemsetD8Async(self, target: pointer, value: ctypes.c_ubyte, size: size_t, stream: pointer):
        return self.cuMemsetD8(target, value, size)

    # ---- streams, events and graphs: all is done at once, in the order in which it is asked for --------------------

    def cuStreamCreate(self, stream: pointer, flags: ctypes.c_uint):
        write(stream, self.handle("stream"))

    def cuStreamCreateWithPriority(self, stream: pointer, flags: ctypes.c_uint, priority: number):
        write(stream, self.handle("stream"))

    def cuStreamDestroy(self, stream: pointer):
        del self.things[stream]

    def cuStreamSynchronize(self, stream: pointer):
        return INVALID if stream in self.recording else SUCCESS

    def cuStreamQuery(self, stream: pointer):
        pass

    def cuStreamWaitEvent(self, stream: pointer, event: pointer, flags: ctypes.c_uint):
        pass

    def cuStreamGetCtx(self, stream: pointer, context: pointer, green: pointer):
        write(context, 1)

    def cuStreamGetDevice(self, stream: pointer, device: pointer):
        write(device, 0, number)

    def cuStreamGetFlags(self, stream: pointer, flags: pointer):
        write(flags, 1, number)

    def cuStreamGetPriority(self, stream: pointer, priority: pointer):
        write(priority, 0, number)

    def cuStreamIsCapturing(self, stream: pointer, found: pointer):
        write(found, int(stream in self.recording), number)

    def cuEventCreate(self, event: pointer, flags: ctypes.c_uint):
        write(event, self.handle("event"))

    def cuEventDestroy(self, event: pointer):
        del self.things[event]

    def cuEventRecord(self, event: pointer, stream: pointer):
        pass

    def cuEventSynchronize(self, event: pointer):
        pass

    def cuEventQuery(self, event: pointer):
        pass

    def cuEventElapsedTime(self, milliseconds: pointer, begin: pointer, end: pointer):
        write(milliseconds, 1.0, ctypes.c_float)

    def cuStreamBeginCapture(self, stream: pointer, mode: number):
        self.recording[stream] = []

    def cuStreamEndCapture(self, stream: pointer, graph: pointer):
        write(graph, self.handle(self.recording.pop(stream)))

    def cuGraphInstantiateWithFlags(self, executable: pointer, graph: pointer, flags: ctypes.c_ulonglong):
        write(executable, self.handle(list(self.things[graph])))

    cuGraphInstantiate = cuGraphInstantiateWithFlags

    def cuGraphDestroy(self, graph: pointer):
        del self.things[graph]

    def cuGraphExecDestroy(self, executable: pointer):
        del self.things[executable]

    def cuGraphLaunch(self, executable: pointer, stream: pointer):
        for recorded in self.things[executable]:
            launch(*recorded, counts=self.counts)

    # ---- kernels ---------------------------------------------------------------------------------------------------

    def cuLibraryLoadData(
        self, library: pointer, code: text, options: pointer, values: pointer, n: ctypes.c_uint, more: pointer,
        more_values: pointer, n_more: ctypes.c_uint,
    ):  # fmt: skip
        text = code.decode()
        if text not in self._kernels:
            self._kernels[text] = Kernel(text)
        write(library, self.handle(self._kernels[text]))

    def cuLibraryUnload(self, library: pointer):
        del self.things[library]

    def cuLibraryGetKernel(self, kernel: pointer, library: pointer, name: text):
        if self.things[library].name != name.decode():
            return NOT_FOUND
        write(kernel, self.handle({"kernel": self.things[library], "shared bytes": 48 << 10, "library": library}))
        return SUCCESS

    def cuLibraryGetModule(self, module: pointer, library: pointer):
        write(module, library)

    def cuLibraryGetGlobal(self, address: pointer, size: pointer, library: pointer, name: text):
        return NOT_FOUND

    def cuKernelGetFunction(self, function: pointer, kernel: pointer):
        write(function, kernel)

    def cuKernelGetLibrary(self, library: pointer, kernel: pointer):
        write(library, self.things[kernel]["library"])

    def cuKernelGetParamInfo(self, kernel: pointer, n: size_t, offset: pointer, size: pointer):
        parameters = self.things[kernel]["kernel"].parameters
        if n >= len(parameters):
            return INVALID
        write(offset, 8 * n, size_t), write(size, parameters[n][1], size_t)
        return SUCCESS

    def cuKernelGetAttribute(self, value: pointer, attribute: number, kernel: pointer, device: number):
        most = self.things[kernel]["shared bytes"]
        write(value, most if attribute == MOST_SHARED else 1024 if attribute == 0 else 0, number)

    def cuKernelSetAttribute(self, attribute: number, value: number, kernel: pointer, device: number):
        if attribute == MOST_SHARED:
            if value > SHARED_BYTES:
                return INVALID
            self.things[kernel]["shared bytes"] = value
        return SUCCESS

    def cuOccupancyMaxActiveBlocksPerMultiprocessor(
        self, blocks: pointer, kernel: pointer, threads: number, shared: size_t
    ):
        fitting = min(BLOCKS_EACH, (SHARED_BYTES + 1024) // (shared + 1024))
        write(blocks, fitting if shared <= self.things[kernel]["shared bytes"] else 0, number)

    def cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        self, blocks: pointer, kernel: pointer, threads: number, shared: size_t, flags: ctypes.c_uint
    ):
        return self.cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks, kernel, threads, shared)

    def cuLaunchKernelEx(self, configuration: pointer, function: pointer, parameters: pointer, extra: pointer):
        given, thing = LaunchConfiguration.from_address(configuration), self.things[function]
        kernel, threads = thing["kernel"], given.block[0] * given.block[1] * given.block[2]
        attributes = [
            Attribute.from_address(given.attributes + n * ctypes.sizeof(Attribute)) for n in range(given.n_attributes)
        ]
        together = any(one.id == COOPERATIVE and one.value[0] for one in attributes)
        at = (pointer * len(kernel.parameters)).from_address(parameters)
        values = [ctypes.string_at(place, size) for place, (_, size) in zip(at, kernel.parameters, strict=True)]
        if not given.grid[0] or given.shared_bytes > thing["shared bytes"] or given.grid[1] * given.grid[2] != 1:
            return INVALID
        if together and given.grid[0] > self.multiprocessors * BLOCKS_EACH:
            return INVALID
        one = kernel, given.grid[0], threads, given.shared_bytes, values, self.memory, together
        if given.stream in self.recording:
            self.recording[given.stream].append(one)
        else:
            launch(*one, counts=self.counts)
        return SUCCESS

    def cuLaunchKernel(
        self, function: pointer, x: ctypes.c_uint, y: ctypes.c_uint, z: ctypes.c_uint, threads: ctypes.c_uint,
        threads_y: ctypes.c_uint, threads_z: ctypes.c_uint, shared: ctypes.c_uint, stream: pointer,
        parameters: pointer, extra: pointer,
    ):  # fmt: skip
        grid, block = (ctypes.c_uint * 3)(x, y, z), (ctypes.c_uint * 3)(threads, threads_y, threads_z)
        given = LaunchConfiguration(grid, block, shared, stream, None, 0)
        return self.cuLaunchKernelEx(ctypes.addressof(given), function, parameters, extra)


def install(multiprocessors=2, lines=False):
    """Let CUDA Python, not imported yet, find this driver, and compile kernels to PTX; returns the Driver.

    Parameters
    ----------
    multiprocessors : int
    lines : bool
        Whether instructions know which lines of the source they come from.
    """
    os.environ |= {"FASTMLP_TEST_GPU": "1", "NUMBA_ENABLE_CUDASIM": "0"}
    folder = tempfile.mkdtemp()
    try:
        source, library = pathlib.Path(folder, "driver.c"), pathlib.Path(folder, "libcuda.so.1")
        source.write_text(LIBRARY)
        command = [shutil.which("cc") or "gcc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", source, "-o", library]
        subprocess.run(command, check=True)
        loaded = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)  # found by its name from here on
    finally:
        shutil.rmtree(folder)
    driver = Driver(multiprocessors)
    find = ctypes.CFUNCTYPE(pointer, text)(driver.address_of)
    loaded.answer_with.argtypes = [ctypes.CFUNCTYPE(pointer, text)]
    loaded.answer_with(find)
    install.kept = loaded, find

    from cuda.core import ObjectCode
    from numba.cuda.codegen import CUDACodeLibrary

    def get_cubin(library, cc=None):
        return ObjectCode.from_cubin("\n".join(library.get_asm_strs(cc)).encode() + b"\0")

    CUDACodeLibrary.get_cubin = get_cubin
    if lines:
        keep_lines()
    return driver


def keep_lines():
    """Let all kernels and device functions be compiled with the lines of their source."""
    from numba import cuda
    from numba.cuda import lowering

    jit, line_of = cuda.jit, lowering.get_func_def_lineno

    def line_or_none(function):
        with contextlib.suppress(IndexError):  # of a function that is nothing but a docstring
            return line_of(function)

    cuda.jit = lambda *arguments, **options: jit(*arguments, **(options | {"lineinfo": True}))
    lowering.get_func_def_lineno = line_or_none


def leave(status):
    """End the process at once: CUDA Python would call the driver to the end, when its functions are gone."""
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
    install(int(sys.argv.pop(1)) if sys.argv[1].isdigit() else 2)
    if sys.argv[1] == "pytest":
        import pytest

        status = pytest.main(["-p", "no:faulthandler", *sys.argv[2:]])
    else:
        sys.argv, status = sys.argv[1:], 0
        runpy.run_path(sys.argv[0], run_name="__main__")
    leave(status)
