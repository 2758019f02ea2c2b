"""The machine that fastmlp finds itself on: versions, and kernels compiled ahead of use."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import numpy as np


def show_versions() -> None:
    """Print versions, CPU features used, threads, the threading layer, the GPU and where compiled kernels are kept."""
    import numba

    import fastmlp
    from fastmlp import devices
    from fastmlp.cpu import compiling, vector

    print(f"fastmlp {fastmlp.__version__}")
    print(f"python {platform.python_version()} ({sys.platform}, {platform.machine()})")
    for package in ("numba", "llvmlite", "numpy", "scipy", "scikit-learn", "tqdm", "numba-cuda"):
        try:
            print(f"{package} {version(package)}")
        except PackageNotFoundError:
            print(f"{package} not installed")
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


def warmup(dtypes: tuple[str, ...] = ("float32", "float64")) -> None:
    """Compile the kernels, or load them from disk, so that no later call waits for it.

    X and T of other dtypes than the network's, sparse matrices and integer labels other than int64 each have a small
    kernel of their own, which is still compiled when it is first met.

    Parameters
    ----------
    dtypes : tuple of str, default=("float32", "float64")
    """
    from fastmlp.network import Network
    from fastmlp.optimizers import SGD

    for dtype in dtypes:
        X = np.zeros((40000, 4), dtype)  # enough rows for more than one thread
        network = Network([4, 3, 2], output="softmax", loss="log_loss", dtype=dtype, random_state=0)
        for T in (np.zeros(300, np.int64), np.eye(2, dtype=dtype)[[0] * 300]):
            network.train(X[:300], T, optimizer=SGD(0.1), epochs=1)
        network.forward(X)
        network.forward(X[:1])
