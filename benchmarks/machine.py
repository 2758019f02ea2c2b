"""Which machine, which versions, and under which threads did a benchmark run?

Every benchmark measures in child processes of its own, because the thread pools of NumPy, PyTorch, JAX and Numba
disturb each other within one process. This module starts those children and writes down where they ran.
"""

import datetime
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import threadpoolctl

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS = HERE / "results"
PACKAGES = (
    "numba", "llvmlite", "numpy", "scipy", "scikit-learn", "jax", "jaxlib", "torch", "numba-cuda", "cuda-bindings",
    "nvidia-cuda-nvrtc",
)  # fmt: skip
THREAD_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class ChildError(RuntimeError):
    """A benchmark's child process ended with an error; the message is the end of what it said."""


def cores():
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model():
    """The processor's name, as far as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def describe():
    """Machine, versions and date of a run, as a dict for its JSON file."""
    source = (ROOT / "fastmlp" / "__init__.py").read_text()
    try:
        git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        commit = git.stdout.strip()
    except OSError:  # there is no git
        commit = ""
    versions = {"python": platform.python_version(), "fastmlp": re.search(r'__version__ = "(.+?)"', source)[1]}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cpu": cpu_model(),
        "cores": cores(),
        "versions": versions,
        "commit": commit or None,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def environment(threads):
    """Environment of a child: this checkout's fastmlp, `threads` threads in every thread pool."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return os.environ | {"PYTHONPATH": path} | dict.fromkeys(THREAD_VARIABLES, str(threads))


def confine(threads):
    """Keep this process on its first `threads` cores, which some thread pools follow, and the pools to as many threads.

    Returns
    -------
    limits : object
        To be kept: the pools that are loaded already are limited as long as it lives.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    return threadpoolctl.threadpool_limits(threads)


def ask(*command, env):
    """Run Python with `command` as its arguments and return the JSON value it prints last."""
    child = subprocess.run([sys.executable, *map(str, command)], env=env, capture_output=True, text=True)
    if child.returncode:
        raise ChildError("\n".join(child.stderr.strip().splitlines()[-5:]))
    return json.loads(child.stdout.splitlines()[-1])


def save(result, path):
    """Write `result` as JSON to `path`, making its folder when needed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"saved {path}")
