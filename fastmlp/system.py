"""The machine that fastmlp finds itself on: versions, and kernels compiled ahead of use."""

import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = (
    "numba", "llvmlite", "numpy", "scipy", "scikit-learn", "safetensors", "tqdm", "pandas", "pyarrow", "onnx",
    "onnxruntime", "numba-cuda",
)  # fmt: skip
VECTOR_FEATURES = ("sse2", "sse4.2", "avx", "avx2", "fma", "avx512f", "avx512bf16", "amx-bf16", "neon", "sve")


def cpu_name() -> str:
    """The processor's name, as far as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def cpu_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def show_versions() -> None:
    """Print versions, the CPU, threads and the layer they run on, the GPU, and where compiled kernels are kept."""
    import numba

    import fastmlp
    from fastmlp import devices
    from fastmlp.cpu import compiling, vector

    print(f"fastmlp {fastmlp.__version__}")
    print(f"python {platform.python_version()} ({sys.platform}, {platform.machine()})")
    for package in PACKAGES:
        try:
            print(f"{package} {version(package)}")
        except PackageNotFoundError:
            print(f"{package} not installed")
    features = vector.host_features()
    print(f"CPU {cpu_name()}, {cpu_count()} core(s)")
    print(f"vector instructions {', '.join(name for name in VECTOR_FEATURES if name in features) or 'none known'}")
    print(f"vectors of {vector.VECTOR_BYTES} bytes, tiles of {vector.TILE_ROWS} x {vector.TILE_VECTORS} vectors")
    print(f"threads {numba.get_num_threads()} of {numba.config.NUMBA_NUM_THREADS}")
    try:
        print(f"threading layer {numba.threading_layer()}")
    except ValueError:
        print("threading layer: none yet, no parallel kernel has run")
    found = devices.look()
    problem = devices.problem_of(found)
    there = f"{found.name}, driver for CUDA {found.driver_version / 1000:.1f}"
    print(f"GPU: {there if problem is None else problem.message}")
    print(f"compiled kernels in {compiling.cache_folder() or 'memory only: no writable folder found'}")


def warmup(dtypes: tuple[str, ...] = ("float32", "float64"), precisions: tuple[str, ...] = ("float32",)) -> None:
    """Compile the kernels, or load them from disk, so that no later call waits for it.

    X and T of other dtypes than the network's, sparse matrices and integer labels other than int64 each have a small
    kernel of their own, which is still compiled when it is first met.

    Parameters
    ----------
    dtypes : tuple of str, default=("float32", "float64")
        Of the networks that are to be trained.
    precisions : tuple of str, default=("float32",)
        Of those of dtype float32; "bf16" where the processor has it.

    Raises
    ------
    ValueError
        When there is no such dtype, or the processor does not multiply in a precision.
    """
    from fastmlp.network import Network
    from fastmlp.optimizers import SGD

    for dtype, precision in [(d, p) for d in dtypes for p in (precisions if d == "float32" else ("float32",))]:
        X = np.zeros((40000, 4), dtype)  # enough rows for more than one thread
        settings: dict[str, Any] = {"dtype": dtype, "precision": precision, "random_state": 0}
        network = Network([4, 3, 2], output="softmax", loss="log_loss", **settings)
        for T in (np.zeros(300, np.int64), np.eye(2, dtype=dtype)[[0] * 300]):
            network.train(X[:300], T, optimizer=SGD(0.1), epochs=1)
        network.forward(X)
        network.forward(X[:1])
