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
    """What `record` launches on a stream that it is given, to be launched as one on another.

    Parameters
    ----------
    record : callable
        Its kernels have been launched before: loading one cannot be recorded. Nothing of it runs yet.
    keep : object
        What the recorded kernels read and write, to stay alive as long as the graph.
    """

    def __init__(self, record: Callable[[Any], Any], keep: Any):
        from cuda.bindings import driver
        from numba import cuda

        self._driver, self._keep = driver, keep
        # a stream that nothing else waits for, so that other threads' copies do not meet the recording
        stream = _checked(driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))
        try:
            with cuda.defer_cleanup():  # nor is memory freed in it
                _checked(driver.cuStreamBeginCapture(stream, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED))
                try:
                    record(cuda.external_stream(int(stream)))
                except BaseException:
                    driver.cuStreamEndCapture(stream)
                    raise
                graph = _checked(driver.cuStreamEndCapture(stream))
            try:
                self._executable = _checked(driver.cuGraphInstantiate(graph, 0))
            finally:
                _checked(driver.cuGraphDestroy(graph))
        finally:
            driver.cuStreamDestroy(stream)

    def launch(self, stream: Any) -> None:
        """Start it on a stream."""
        _checked(self._driver.cuGraphLaunch(self._executable, self._driver.CUstream(int(stream.handle))))

    def __del__(self) -> None:
        if hasattr(self, "_executable"):
            self._driver.cuGraphExecDestroy(self._executable)
