"""Hypothesis draws the same examples in every run, and no example is timed; CUDA kernels run in the simulator.

With FASTMLP_TEST_GPU=1 they run on the GPU instead.
"""

import os
import signal
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

if os.environ.get("FASTMLP_TEST_GPU", "0") == "0":
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1"  # read when numba.cuda is imported

settings.register_profile("fastmlp", derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("fastmlp")


@pytest.fixture
def quick_simulator(monkeypatch):
    """Let the simulator's threads wait for one another at a barrier; as it is, its main thread asks each in a loop."""
    try:
        from numba.cuda.simulator import kernel
    except ImportError:
        return

    def run(manager, block, *arguments):
        barrier = threading.Barrier(int(np.prod(manager._block_dim)))

        def start(place):
            thread = kernel.BlockThread(lambda: manager._f(*arguments), manager, block, place, manager._debug)
            thread.barrier = barrier
            thread.start()
            return thread

        threads = [start(place) for place in np.ndindex(*manager._block_dim)]
        for thread in threads:
            thread.join()
        failures = [thread.exception for thread in threads if thread.exception]
        for error, trace in sorted(failures, key=lambda f: isinstance(f[0], threading.BrokenBarrierError)):
            raise error.with_traceback(trace)

    run_thread = kernel.BlockThread.run

    def run_and_release(thread):
        run_thread(thread)
        if thread.exception:
            thread.barrier.abort()  # or the others would wait for ever

    monkeypatch.setattr(kernel.BlockManager, "run", run)
    monkeypatch.setattr(kernel.BlockThread, "run", run_and_release)
    monkeypatch.setattr(kernel.BlockThread, "syncthreads", lambda thread: thread.barrier.wait())


@pytest.fixture
def ctrl_c():
    """SIGINT raises KeyboardInterrupt; a process started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
