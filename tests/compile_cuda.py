"""Compile every CUDA kernel for chips without having one, and print what the compiler made of it, as JSON.

    python tests/compile_cuda.py 8.0 9.0 [float32 | float64 | tf32 | bf16] [epoch | stage]
    python tests/compile_cuda.py 9.0 linked

The first chip named decides which instructions the kernels have. For each chip and kernel: registers, bytes of the
stack and of spills, static and dynamic shared memory, threads, and how often some instructions are in its PTX; of those
that multiply on tensor cores also in the machine code, if cuobjdump is there. "linked" compiles some as a launch does,
by NVIDIA's linker, which optimizes once more and takes several times as long. Run by test_cuda_compile.py, in processes
without the simulator.
"""

import itertools
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile
import types

import numpy as np
from numba.cuda import codegen, dispatcher
from numba.cuda import types as kinds
from numba.cuda.compiler import _compile_pyfunc_with_fixup

import fastmlp
from fastmlp.cuda import epoch, launch, layout, reduction

WORDS = ("fma.rn", "cp.async.cg", "ld.shared.v", ".f64", "atom.", "red.release", "ld.acquire")
WORDS += ("m16n8k8.row.col.f32.tf32", "m16n8k16.row.col.f32.bf16", "ldmatrix", ".trans", "cvt.rna.tf32", "cvt.rn.bf16")
WORDS += ("shfl.sync",)
MACHINE_WORDS = ("HMMA.1688.F32.TF32", "HMMA.16816.F32.BF16", "LDSM.16", "LDGSTS", "LDL", "STL")
TABLE_BYTES = 4096  # of shared memory, for a network of a few layers


def ptxas():
    """The assembler of the package nvidia-cuda-nvcc, else the one on the path."""
    for folder in sys.path:
        for found in pathlib.Path(folder).glob("nvidia/*/bin/ptxas"):
            return str(found)
    return "ptxas"


def signature(real, numbers=0):
    """What a kernel of epoch.py is called with, behind so many integers."""
    real = kinds.float32 if real is np.float32 else kinds.float64
    arrays = [kinds.int64, real, real, real, kinds.uint8, kinds.int32, kinds.float64, kinds.float64, kinds.uint32]
    return kinds.void(*[kinds.int64] * numbers, *(kinds.Array(kind, 1, "C") for kind in arrays))


def swish(z):
    return z / (1.0 + math.exp(-z))


def supplied():
    """A user's activation and loss: with a function of theirs, an `if`, and NumPy's functions."""
    f = fastmlp.Activation(swish, lambda z: swish(z) + (1.0 - swish(z)) / (1.0 + np.exp(-z)))
    loss = fastmlp.Loss(lambda a, y: max(0.9 * (y - a), 0.1 * (a - y)), lambda a, y: -0.9 if a < y else 0.1)
    return epoch.Supplied(f, f, loss)


def tensor_kernels(precision):
    """The same for a precision of the tensor cores, with a user's functions in the kernel of the first tile."""
    for shape in layout.shapes(np.float32, precision):
        shared = TABLE_BYTES + layout.ring_size(shape, np.float32) * 4
        bounds, tile = (shape.threads, shape.blocks), f"{shape.rows}x{shape.columns} {precision}"
        yield f"epoch {tile}", epoch.make_epoch(np.float32, shape, False), signature(np.float32), bounds, shared
        yield f"stage {tile}", epoch.make_stage(np.float32, shape), signature(np.float32, 2), bounds, shared
        if shape is layout.shapes(np.float32, precision)[0]:
            kernel = epoch.make_stage(np.float32, shape, supplied())
            yield f"stage {tile} with a user's functions", kernel, signature(np.float32, 2), bounds, shared
    for shape in layout.PASS_SHAPES if precision == "bf16" else ():
        shared, bounds = TABLE_BYTES + 4 * shape.ring_words(2), (shape.threads, 1)
        name = f"pass {shape.width} {shape.rows} {precision}"
        yield f"epoch {name}", epoch.make_epoch(np.float32, shape, False), signature(np.float32), bounds, shared
        if shape is layout.PASS_SHAPES[0]:
            yield f"stage {name}", epoch.make_stage(np.float32, shape), signature(np.float32, 2), bounds, shared
            kernel = epoch.make_stage(np.float32, shape, supplied())
            yield f"stage {name} with a user's functions", kernel, signature(np.float32, 2), bounds, shared
    if precision == "bf16":
        shape = layout.STATIONARY
        shared, bounds = TABLE_BYTES + 4 * shape.ring_words(784), (shape.threads, 1)
        for more, pieces in ("", epoch.NOTHING), (" with a user's functions", supplied()):
            kernel = epoch.make_epoch(np.float32, shape, False, pieces)
            yield f"epoch stationary {precision}{more}", kernel, signature(np.float32), bounds, shared


def kernels(reals):
    """(name, kernel, signature, launch bounds, dynamic shared bytes) of every kernel there is for some dtypes."""
    for real in reals:
        size = np.dtype(real).itemsize
        for shape in layout.shapes(real):
            shared = TABLE_BYTES + layout.ring_size(shape, real) * size
            for resident in (False, True) if shape in layout.resident_shapes(real) else (False,):
                name = f"epoch {'in one block ' if resident else ''}{shape.rows}x{shape.columns} {real.__name__}"
                bounds = shape.threads, epoch.blocks_of(real, shape, resident)
                yield name, epoch.make_epoch(real, shape, resident), signature(real), bounds, shared
            bounds = shape.threads, epoch.blocks_of(real, shape, False)
            name = f"stage {shape.rows}x{shape.columns} {real.__name__}"
            yield name, epoch.make_stage(real, shape), signature(real, 2), bounds, shared
        if real is np.float32:
            shape = layout.shapes(real)[0]
            bounds, shared = (shape.threads, 1), TABLE_BYTES + layout.ring_size(shape, real) * size
            name = "epoch in one block with a user's functions"
            yield name, epoch.make_epoch(real, shape, True, supplied()), signature(real), bounds, shared
        array = kinds.Array(kinds.float32 if real is np.float32 else kinds.float64, 1, "C")
        found = kinds.Array(kinds.float64, 1, "C")
        threads = reduction.REDUCERS
        name = f"largest difference {real.__name__}"
        yield name, reduction._largest_differences, kinds.void(array, array, found), (threads, 1), 8 * threads
    counters = kinds.Array(kinds.uint32, 1, "C")
    yield "advance", epoch.advance, kinds.void(counters, kinds.int64), (32, 1), 0


def report(kernel, sig, bounds, shared, capabilities, folder):
    """What the compiler and the assembler say of one kernel, for each capability."""
    # what comes before the assembler takes most of the time and gives the same for all of them, but for their names
    library, _ = _compile_pyfunc_with_fixup(
        kernel.py_func, sig, cc=capabilities[0], device=False, abi="numba", launch_bounds=bounds
    )
    text = library.get_asm_strs(cc=capabilities[0])[0]
    if shared <= 2 * TABLE_BYTES:  # a small kernel: see whether it is so
        assert all(library.get_asm_strs(cc=c)[0] == targeted(text, c) for c in capabilities)
    return {f"{c[0]}.{c[1]}": assembled(targeted(text, c), bounds, shared, c, folder) for c in capabilities}


def targeted(text, capability):
    """The same PTX for a chip of that capability."""
    text, targets = re.subn(r"(?m)^\.target sm_\d+$", f".target sm_{capability[0]}{capability[1]}", text)
    assert targets == 1
    return text


def assembled(text, bounds, shared, capability, folder):
    """What the assembler says of PTX."""
    path = pathlib.Path(folder, "kernel.ptx")
    path.write_text(text)
    chip = f"-arch=sm_{capability[0]}{capability[1]}"
    code = str(path) + ".cubin"
    done = subprocess.run([ptxas(), chip, "-v", str(path), "-o", code], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    instructions, reader = None, pathlib.Path(ptxas()).with_name("cuobjdump")
    if "mma.sync" in text and reader.exists():
        sass = subprocess.run([reader, "-sass", code], capture_output=True, text=True, check=True).stdout
        instructions = {word: len(re.findall(rf"\s{re.escape(word)}", sass)) for word in MACHINE_WORDS}
        instructions["LDS"] = len(re.findall(r"\sLDS R", sass))
        instructions["LDS at a distance"] = len(re.findall(r"\sLDS R\d+, \[R\d+(?:\.\w+)?\+(?:UR\d+\+)?0x", sass))

    def number(pattern):
        found = re.search(pattern, done.stderr)
        return int(found[1]) if found else 0

    return {
        "registers": number(r"Used (\d+) registers"),
        "stack": number(r"(\d+) bytes stack frame"),
        "spills": number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads"),
        "static_shared": number(r"(\d+) bytes smem"),
        "dynamic_shared": shared,
        "threads": bounds[0],
        "blocks": bounds[1],
        "words": {word: text.count(word) for word in WORDS},
        "instructions": instructions,
    }


def linked(kernel, sig, capability, folder):
    """Registers and stack of a kernel as a launch compiles and links it."""
    codegen.CUDACodeLibrary._ensure_cc = lambda library, cc: cc or (*capability, "a")
    options = {name: kernel.targetoptions[name] for name in ("lto", "opt", "launch_bounds")}
    library = dispatcher._Kernel(kernel.py_func, sig.args, **options)._codelibrary
    path = pathlib.Path(folder, "linked.cubin")
    path.write_bytes(library.get_cubin().code)
    reader = pathlib.Path(ptxas()).with_name("cuobjdump")
    usage = subprocess.run([reader, "-res-usage", path], capture_output=True, text=True, check=True)
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage.stdout + usage.stderr)
    return {"registers": int(found[1]), "stack": int(found[2])}


def some_kernels():
    """The epoch's kernel for the first two tiles and the last tile or pass of every precision; the stationary one."""
    every = [kernels([real]) for real in (np.float32, np.float64)] + [tensor_kernels(p) for p in ("tf32", "bf16")]
    for of_precision in every:
        epochs = [kernel for kernel in of_precision if kernel[0].startswith("epoch")]
        others = [kernel for kernel in epochs if "stationary" in kernel[0]]
        yield from (*epochs[:2], epochs[-1 - len(others)], *others[:1])


def main():
    names = [name for name in sys.argv[1:] if name.startswith("float")]
    precisions = [name for name in sys.argv[1:] if name in ("tf32", "bf16")]
    if not names and not precisions:
        names, precisions = ["float32", "float64"], ["tf32", "bf16"]
    chips = [name for name in sys.argv[1:] if name[0].isdigit()]

    def wanted(name):
        part = "epoch" if name.startswith("epoch") else "stage"  # which the small ones go with
        return part in sys.argv or not {"epoch", "stage"} & set(sys.argv)

    capabilities = [tuple(map(int, chip.split("."))) for chip in chips]
    # device functions are compiled for the device in use; there is none here
    dispatcher.get_current_device = lambda: types.SimpleNamespace(compute_capability=capabilities[0])
    assert launch.DEFAULT_SHARED_BYTES == 48 << 10
    with tempfile.TemporaryDirectory() as folder:
        if "linked" in sys.argv:
            (chip,) = capabilities
            print(json.dumps({name: linked(kernel, sig, chip, folder) for name, kernel, sig, *_ in some_kernels()}))
            return
        every = kernels([getattr(np, name) for name in names]) if names else ()
        every = itertools.chain(every, *map(tensor_kernels, precisions))
        found = {name: report(*rest, capabilities, folder) for name, *rest in every if wanted(name)}
    print(json.dumps({chip: {name: reports[chip] for name, reports in found.items()} for chip in chips}))


if __name__ == "__main__":
    main()
