"""Every CUDA kernel, compiled for chips that need not be here: no spills, budgets kept, the instructions meant."""

import importlib.util
import json
import pathlib
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from cases import run_python

HERE = pathlib.Path(__file__).parent
CHIPS = ("7.5", "8.0", "9.0")

if importlib.util.find_spec("numba_cuda") is None:
    pytest.skip("CUDA Python (the extra cuda) is not installed", allow_module_level=True)
if not any([*pathlib.Path(p).glob("nvidia/*/bin/ptxas")] for p in sys.path) and shutil.which("ptxas") is None:
    pytest.skip("no ptxas: neither the package nvidia-cuda-nvcc nor one on the path", allow_module_level=True)


@pytest.fixture(scope="module")
def reports():
    """What compile_cuda.py prints for each chip."""
    jobs = [(*CHIPS[1:], real) for real in ("float32", "float64")]
    jobs += [(CHIPS[0], "float32", "stage")]  # a chip with hardly any float64: each tile, without the loop over chunks

    def compiled(job):
        return json.loads(run_python(HERE / "compile_cuda.py", *job, timeout=900, NUMBA_ENABLE_CUDASIM="0"))

    found = {chip: {} for chip in CHIPS}
    with ThreadPoolExecutor(2) as pool:  # chips with asynchronous copies, and one without
        for part in pool.map(compiled, jobs):
            for chip, kernels in part.items():
                found[chip] |= kernels
    return found


@pytest.mark.parametrize("chip", CHIPS)
def test_budgets(reports, chip):
    """No spills, no stack; blocks that fit a multiprocessor's 65,536 registers, and shared memory without asking."""
    assert len(reports[chip]) >= (18 if chip != "7.5" else 6)
    for name, kernel in reports[chip].items():
        assert kernel["spills"] == 0 and kernel["stack"] == 0, (name, kernel)
        assert kernel["registers"] <= 255 and kernel["registers"] * kernel["threads"] * kernel["blocks"] <= 65536, name
        assert kernel["static_shared"] == 0 and kernel["dynamic_shared"] <= 48 << 10, (name, kernel)


@pytest.mark.parametrize("chip", CHIPS)
def test_instructions(reports, chip):
    """Fused multiply-adds, 16-byte loads, copies past the registers where the chip has them, one sort of atomic."""
    for name, kernel in reports[chip].items():
        words = kernel["words"]
        assert words["atom."] == 0 and words["red.release"] == (name.startswith("epoch ") and "one block" not in name)
        if name.startswith(("epoch", "stage")):
            assert words["fma.rn"] >= 3 * 64 and words["ld.shared.v"] >= 3 * 4, (name, words)
            copies = chip != "7.5" and "one block" not in name
            assert (words["cp.async.cg"] > 0) == copies, (name, words)
