"""CUDA graphs: launches that are recorded once and then started as one, without Python in between."""

from collections.abc import Callable
from typing import Any


def _checked(answer: tuple[Any, ...]) -> Any:
    """What a call of the driver returned behind its error code; raises if that is one."""
    from cuda.bindings import driver

    error, *rest = answer
    if error != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"a CUDA graph could not be made: {error.name}")
    return rest[0] if rest else None


class Graph:
    """What `record` launches on a stream, to be launched again.

    Parameters
    ----------
    stream : numba.cuda stream
        Not the default one; `record` launches on it, and so does `launch`.
    record : callable
        Its kernels have been launched before: loading one cannot be recorded.
    """

    def __init__(self, stream: Any, record: Callable[[], None]):
        from cuda.bindings import driver

        self._driver, self._stream = driver, driver.CUstream(int(stream.handle))
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        _checked(driver.cuStreamBeginCapture(self._stream, mode))
        try:
            record()
        finally:
            graph = _checked(driver.cuStreamEndCapture(self._stream))
        try:
            self._executable = _checked(driver.cuGraphInstantiate(graph, 0))
        finally:
            _checked(driver.cuGraphDestroy(graph))

    def launch(self) -> None:
        """Start it once more."""
        _checked(self._driver.cuGraphLaunch(self._executable, self._stream))

    def __del__(self) -> None:
        if hasattr(self, "_executable"):
            self._driver.cuGraphExecDestroy(self._executable)
