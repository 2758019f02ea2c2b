"""The instructions that the 32 threads of a warp do together, in NumPy: what they are in the simulator.

A *fragment* is what each thread (lane) has of a matrix: words of 32 bits, two bfloat16 (the first one low) or one
TF32 number each. Which entries those are is written down here from the tables of the PTX ISA ("Matrix Fragments for
mma.m16n8k16", "... mma.m16n8k8", "ldmatrix").
"""

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

LANES = 32
_lane = np.arange(LANES)
GROUP, IN_GROUP = _lane // 4, _lane % 4  # the PTX ISA's groupID and threadID_in_group


def bfloat16(numbers: Any) -> np.ndarray:
    """The 16 bits of the nearest bfloat16, ties to even, as uint16; NaN stays NaN."""
    numbers = np.asarray(numbers, np.float32)
    bits = numbers.view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
    return np.where(np.isnan(numbers), np.uint32(0x7FFF), rounded).astype(np.uint16)


def of_bfloat16(bits: Any) -> np.ndarray:
    """The float32 that the 16 bits of a bfloat16 stand for."""
    return (np.asarray(bits, np.uint32) << np.uint32(16)).view(np.float32)


def tf32(numbers: Any) -> np.ndarray:
    """The nearest number of 10 bits of mantissa, ties away from zero (cvt.rna), as the bits of a float32 (uint32)."""
    numbers = np.asarray(numbers, np.float32)
    bits = numbers.view(np.uint32)
    rounded = (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return np.where(np.isnan(numbers), np.uint32(0x7FFFFFFF), rounded)


def _halves(words: np.ndarray) -> np.ndarray:
    """The two bfloat16 of each word as numbers: one more axis of 2."""
    return of_bfloat16(np.stack([words & np.uint32(0xFFFF), words >> np.uint32(16)], axis=-1))


# Where the entries of the fragments are: of lane, register and, in bfloat16, half of it, the row and the column.
_r, _h = np.arange(4), np.arange(2)
_group, _in_group = GROUP[:, None, None], IN_GROUP[:, None, None]
_C = GROUP[:, None] + 8 * (_r // 2), 2 * IN_GROUP[:, None] + _r % 2
_A_BF16 = _group + 8 * (_r % 2)[:, None] + 0 * _h, 2 * _in_group + 8 * (_r // 2)[:, None] + _h
_B_BF16 = 2 * _in_group + 8 * _r[:2, None] + _h, _group + 0 * _r[:2, None] + 0 * _h
_A_TF32 = GROUP[:, None] + 8 * (_r % 2), IN_GROUP[:, None] + 4 * (_r // 2)
_B_TF32 = IN_GROUP[:, None] + 4 * _r[:2], GROUP[:, None] + 0 * _r[:2]


def mma_bf16(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """mma.m16n8k16: the fragment (32, 4) of A B + C; a (32, 4) and b (32, 2) are words, c (32, 4) float32."""
    return _product((16, 16, 8), (_A_BF16, _halves(a)), (_B_BF16, _halves(b)), c)


def mma_tf32(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """mma.m16n8k8: the fragment (32, 4) of A B + C; the chip does not look at the low 13 bits of a word."""
    return _product((16, 8, 8), (_A_TF32, _truncated(a)), (_B_TF32, _truncated(b)), c)


def _truncated(words: np.ndarray) -> np.ndarray:
    return (words & np.uint32(0xFFFFE000)).view(np.float32)


def _product(shape: tuple[int, int, int], a: Any, b: Any, c: np.ndarray) -> np.ndarray:
    A, B = np.empty(shape[:2]), np.empty(shape[1:])
    A[a[0]], B[b[0]] = a[1], b[1]
    with np.errstate(all="ignore"):
        return ((A @ B)[_C] + c).astype(np.float32)


def load_matrices(rows: np.ndarray, transposed: bool) -> np.ndarray:
    """ldmatrix.x4: four matrices of 8 x 8 halves; lane n has given row n % 8 of matrix n // 8, four words: (32, 4).

    Register j of a lane is two halves of matrix j that follow one another in a row, or, transposed, in a column.
    """
    matrices = np.ascontiguousarray(rows, np.uint32).view(np.uint16).reshape(4, 8, 8)
    if transposed:
        matrices = matrices.swapaxes(1, 2)
    words = np.ascontiguousarray(matrices).view(np.uint32)  # (4, 8, 4)
    return np.ascontiguousarray(words[:, GROUP, IN_GROUP].T)


class Warp:
    """Where the 32 simulated threads of a warp meet: each gives something, and gets its part of what is made of all."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._given: list[Any] = [None] * LANES
        self._name, self._count, self._meetings = "", 0, 0
        self._result: Any = None

    @classmethod
    def of_this_thread(cls) -> tuple["Warp", int]:
        """The warp of a thread of the simulator, and which lane of it the thread is."""
        thread: Any = threading.current_thread()
        if not hasattr(thread, "warp"):
            threads = math.prod(thread._manager._block_dim)
            if threads % LANES:
                raise ValueError(f"a block has {threads} threads; warps are of {LANES}")
            warps = thread._manager.__dict__.setdefault("warps", {})
            thread.warp = warps.setdefault(thread.thread_id // LANES, cls())
        return thread.warp, thread.thread_id % LANES

    def meet(self, name: str, lane: int, given: Any, made_of: Callable[[list[Any]], Any]) -> Any:
        """Give something, wait for the others, and get result[lane] of what made_of(all that was given) returns."""
        thread: Any = threading.current_thread()
        with self._condition:
            if self._count and name != self._name:
                raise RuntimeError(f"threads of a warp are at {self._name} and at {name}")
            meeting, self._name, self._given[lane] = self._meetings, name, given
            self._count += 1
            if self._count == LANES:
                self._result, self._count = made_of(self._given), 0
                self._meetings += 1
                self._condition.notify_all()
            while self._meetings == meeting:
                if not self._condition.wait(0.5) and self._given_up(thread):
                    raise threading.BrokenBarrierError(f"a thread did not come to {name}")
            return self._result[lane]

    @staticmethod
    def _given_up(thread: Any) -> bool:
        """Whether another thread of the block has failed."""
        barrier = getattr(thread, "barrier", None)
        return bool(thread.abort or (barrier is not None and barrier.broken))
