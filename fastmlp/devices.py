"""Which device a network runs on: what "cuda" and "auto" mean on this machine."""

import functools
import importlib
import importlib.util
import os
import warnings
from typing import Any, NamedTuple

DEVICES = ("cpu", "cuda", "auto")
PRECISIONS = ("float32", "tf32", "bf16")
LOWEST_CAPABILITY = (7, 5)
TENSOR_CAPABILITY = (8, 0)  # of the lowest that multiplies in tf32 and bf16
INSTALL = "pip install 'fastmlp[cuda]'"

# What "auto" adds to a training on the GPU, guessed: compiling the kernels in this process, a host's part of an epoch.
COMPILE_SECONDS = 15.0
EPOCH_SECONDS = 300e-6


class Probe(NamedTuple):
    """What a look for a GPU has found."""

    installed: bool = False  # CUDA Python
    driver: bool = False
    devices: int = 0
    name: str = ""
    capability: tuple[int, int] = (0, 0)
    driver_version: int = 0  # of CUDA, times 1000
    toolkit: int = 0  # the same
    broken: str = ""  # why CUDA Python or its compiler cannot be loaded
    error: str = ""  # of the driver, when it did not start


class Problem(NamedTuple):
    """Why there is no GPU to run on, and whether somebody who did not ask for one wants to know."""

    message: str
    there: bool  # a GPU, or a driver that should see one


def look() -> Probe:
    """Look for CUDA Python, a driver and a GPU; nothing is started on the GPU."""
    if importlib.util.find_spec("numba_cuda") is None or importlib.util.find_spec("cuda") is None:
        return Probe()
    try:
        from cuda.bindings import driver, nvrtc, nvvm
    except ImportError as problem:
        return Probe(installed=True, broken=str(problem))
    try:
        error, *_ = driver.cuInit(0)
    except Exception:  # whichever way this version says that there is no driver's library
        return Probe(installed=True)
    if error == driver.CUresult.CUDA_ERROR_NO_DEVICE:
        return Probe(installed=True, driver=True)
    if error != driver.CUresult.CUDA_SUCCESS:
        return Probe(installed=True, driver=True, devices=1, error=error.name)
    devices, version = driver.cuDeviceGetCount()[1], driver.cuDriverGetVersion()[1]
    if devices == 0:
        return Probe(installed=True, driver=True)
    try:
        major, minor = nvrtc.nvrtcVersion()[1:3]
        nvvm.version()
    except Exception as problem:
        return Probe(installed=True, driver=True, devices=devices, broken=str(problem))
    device = driver.cuDeviceGet(0)[1]
    attribute = driver.CUdevice_attribute
    capability = tuple(
        driver.cuDeviceGetAttribute(which, device)[1]
        for which in (
            attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        )
    )
    name = driver.cuDeviceGetName(128, device)[1].split(b"\0")[0].decode()
    return Probe(True, True, devices, name, (capability[0], capability[1]), version, 1000 * major + 10 * minor)


def problem_of(probe: Probe) -> Problem | None:
    """What keeps networks from running on what a look has found; None if nothing does."""
    if not probe.installed:
        return Problem(f"CUDA Python is not installed; try {INSTALL}", False)
    if probe.broken:
        reason = " ".join(probe.broken.split())
        return Problem(f"CUDA Python cannot be loaded ({reason}); try {INSTALL}", probe.devices > 0)
    if not probe.driver:
        return Problem("no NVIDIA driver was found; install one for your GPU, or check that libcuda.so is found", False)
    if probe.devices == 0:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hint = "" if visible is None else f"; CUDA_VISIBLE_DEVICES is {visible!r}"
        return Problem(f"the NVIDIA driver sees no GPU{hint}", False)
    if probe.error:
        return Problem(f"the NVIDIA driver did not start ({probe.error}); nvidia-smi may say more", True)
    if probe.capability < LOWEST_CAPABILITY:
        found, lowest = (".".join(map(str, c)) for c in (probe.capability, LOWEST_CAPABILITY))
        return Problem(f"{probe.name} has compute capability {found}; {lowest} is the lowest that is supported", True)
    if probe.driver_version // 1000 < probe.toolkit // 1000:
        driver, toolkit = (f"{v // 1000}.{v % 1000 // 10}" for v in (probe.driver_version, probe.toolkit))
        message = f"the NVIDIA driver is for CUDA {driver}, older than the installed compiler's {toolkit}"
        other = ", or the compiler for this one: pip install 'numba-cuda[cu12]'" if driver.startswith("12.") else ""
        return Problem(f"{message}; install a newer driver{other}", True)
    return None


_looked_in: list[int] = []  # the process that has started the driver


@functools.cache
def visible_problem() -> Problem | None:
    """What a look says, without anything being started on a GPU but the driver."""
    if _simulated():
        return None if importlib.util.find_spec("numba_cuda") is not None else problem_of(Probe())
    _looked_in.append(os.getpid())
    return problem_of(look())


def _simulated() -> bool:
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")


def cuda_problem() -> Problem | None:
    """What keeps networks from running on a GPU here; None if nothing does, and the GPU has been started."""
    return visible_problem() or _start()


def _start() -> Problem | None:
    if _simulated():
        return None
    if _looked_in[-1] != os.getpid():
        return Problem(
            "the GPU's driver was started before this process was forked, which CUDA does not allow; start processes "
            "with multiprocessing's 'spawn' or 'forkserver'",
            True,
        )
    try:
        from numba import cuda

        cuda.current_context()
    except Exception as error:
        reason = " ".join(str(error).split())
        return Problem(f"the GPU could not be started ({reason}); another process may have filled its memory", True)
    return None


@functools.cache
def _tell(message: str) -> None:
    """Say once why "auto" takes the CPU although there is a GPU."""
    warnings.warn(f"device='auto' takes the CPU: {message}", RuntimeWarning, stacklevel=4)


def precision_problem(precision: str, device: str) -> str | None:
    """Why a device, "cpu" or a "cuda" that has been started, does not multiply in a precision; None if it does."""
    if precision == "float32":
        return None
    if device == "cuda":
        from numba import cuda

        capability = TENSOR_CAPABILITY if _simulated() else cuda.get_current_device().compute_capability
        if tuple(capability) >= TENSOR_CAPABILITY:
            return None
        found, lowest = (".".join(map(str, c)) for c in (capability, TENSOR_CAPABILITY))
        return f"the GPU has compute capability {found}, but {precision} needs {lowest}"
    if precision == "tf32":
        return "processors do not multiply in tf32, but some GPUs do (device='cuda')"
    from fastmlp.cpu.vector import HAS_BF16

    return None if HAS_BF16 else "this processor has no dot products of bfloat16 (AVX512-BF16)"


def resolve(device: str, precision: str = "float32", dtype: Any = "float32") -> str:
    """The device to begin on: "auto" begins on the CPU, and `choose` may move it.

    Where only a GPU multiplies in the precision, "auto" is "cuda".

    Raises
    ------
    ValueError
        When it is "cuda" and there is no GPU to run on, or when nothing here multiplies in the precision.
    """
    if precision != "float32" and str(dtype) != "float32":
        raise ValueError(
            f"precision is {precision!r} and dtype is {str(dtype)!r}; with dtype='float32' {', '.join(PRECISIONS)} are "
            f"allowed, with others precision='float32' only"
        )
    if device == "cuda":
        problem = cuda_problem()
        if problem is not None:
            raise ValueError(f"device is 'cuda' and {problem.message}; 'cpu' and 'auto' are allowed")
    found, reason = _begins_on(device, precision)
    if reason is not None:
        raise ValueError(f"precision is {precision!r} and {reason}; 'float32' is allowed everywhere")
    return found


def _begins_on(device: str, precision: str) -> tuple[str, str | None]:
    """The device to begin on, and why it does not multiply in the precision."""
    reason = precision_problem(precision, "cpu")
    if device == "cuda" or (device == "auto" and reason is not None and cuda_problem() is None):
        return "cuda", precision_problem(precision, "cuda")
    return "cpu", reason


def kept_precision(precision: str, device: str, stacklevel: int) -> str:
    """The precision of a network that comes from elsewhere; float32, with a warning, if it cannot be had here."""
    _, reason = _begins_on(device, precision)
    if reason is None:
        return precision
    warnings.warn(f"a network in {precision} goes on in float32: {reason}", RuntimeWarning, stacklevel + 1)
    return "float32"


def trainer_class(device: str) -> Any:
    """The trainer of a device, "cpu" or "cuda"."""
    return importlib.import_module(f"fastmlp.{device}.trainer").Trainer


def choose(trainer: Any, examples: int, batch_size: int, epochs: int) -> str:
    """ "cuda" where a GPU is there and trains a network faster than the CPU, by the cost rules of both; else "cpu".

    A GPU that is there but unusable is told of by the first training that is long enough for it.

    Parameters
    ----------
    trainer : Trainer
        On either device.
    examples, batch_size, epochs : int
    """
    from fastmlp.cpu.trainer import seconds_an_epoch as on_cpu

    if precision_problem(trainer.precision, "cpu") is not None:
        return "cuda"
    cpu = epochs * on_cpu(trainer.sizes, trainer.dtype, trainer.precision, examples)
    compiled = type(trainer).__module__ == "fastmlp.cuda.trainer"
    start = 0.0 if compiled else COMPILE_SECONDS
    if cpu < start:
        return "cpu"  # and no driver is started, so that the process may still be forked
    problem = cuda_problem()
    if problem is not None:
        if problem.there:
            _tell(problem.message)
        return "cpu"
    if precision_problem(trainer.precision, "cuda") is not None:
        return "cpu"
    from fastmlp.cuda.trainer import seconds_an_epoch as on_gpu

    try:
        gpu = start + epochs * (EPOCH_SECONDS + on_gpu(trainer.settings, examples, batch_size))
    except (MemoryError, ValueError):  # too large for the device
        return "cpu"
    return "cuda" if gpu < cpu else "cpu"
