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

pytestmark = pytest.mark.compile
LARGEST_SHARED = {"8.0": 163 << 10, "9.0": 227 << 10}  # that a block may have


def precision_of(name):
    """The precision of a kernel that multiplies on tensor cores, else None."""
    return next((precision for precision in ("bf16", "tf32") if precision in name.split()), None)


@pytest.fixture(scope="module")
def reports():
    """What compile_cuda.py prints for each chip."""
    jobs = [(*CHIPS[1:], real) for real in ("bf16", "tf32", "float32", "float64")]
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
    assert len(reports[chip]) >= (47 if chip != "7.5" else 6)
    for name, kernel in reports[chip].items():
        assert kernel["spills"] == 0 and kernel["stack"] == 0, (name, kernel)
        assert kernel["registers"] <= 255 and kernel["registers"] * kernel["threads"] * kernel["blocks"] <= 65536, name
        blocks = kernel["blocks"]  # the largest tile on tensor cores is for chips that have shared memory for it
        large = "128x256" in name or "stationary" in name  # for 784 inputs
        most = LARGEST_SHARED["9.0" if large else chip] if precision_of(name) else 48 << 10
        assert kernel["static_shared"] == 0 and kernel["dynamic_shared"] <= most, (name, kernel)
        if chip == "9.0" and precision_of(name):  # a block takes 1 KiB more; the blocks meant are there together
            assert (kernel["dynamic_shared"] + 1024) * blocks <= 228 << 10, (name, kernel)


def test_linked_as_for_a_launch():
    """What NVIDIA's linker makes of kernels, which is what runs, keeps to registers as well."""
    report = run_python(HERE / "compile_cuda.py", "9.0", "linked", timeout=900, NUMBA_ENABLE_CUDASIM="0")
    found = json.loads(report)
    assert len(found) == 13
    assert all(kernel["stack"] == 0 and kernel["registers"] <= 255 for kernel in found.values()), found


@pytest.mark.parametrize("chip", CHIPS)
def test_instructions(reports, chip):
    """Fused multiply-adds, 16-byte loads, copies past the registers where the chip has them, one sort of atomic."""
    for name, kernel in reports[chip].items():
        words = kernel["words"]
        # counters: of the barrier, and of what is gathered ahead
        counters = 2 if "stationary" in name else int(name.startswith("epoch ") and "one block" not in name)
        assert words["atom."] == 0 and words["red.release"] == counters
        if name.startswith(("epoch", "stage")) and not precision_of(name):
            assert words["fma.rn"] >= 3 * 64 and words["ld.shared.v"] >= 3 * 4, (name, words)
            copies = chip != "7.5" and "one block" not in name
            assert (words["cp.async.cg"] > 0) == copies, (name, words)


@pytest.mark.parametrize("chip", CHIPS[1:])
def test_tensor_instructions(reports, chip):
    """The products' mma, each written out once, fed by ldmatrix and asynchronous copies; sums in registers.

    Loops of passes and of the smallest tile are short, and the compiler may write out some of their rounds.
    """
    for name, kernel in reports[chip].items():
        precision, words, machine = precision_of(name), kernel["words"], kernel["instructions"]
        if precision is None:
            assert machine is None and words["ldmatrix"] == 0
            continue
        warps = kernel["threads"] // 32
        if "pass" in name:  # z of hidden layers and outputs, and delta: 32 columns; U and V of 32 destinations
            width, rows = map(int, name.split()[2:4])
            products = 3 * (width // 16) * 4 + 2 * (rows // 16) * 4
            assert words["shfl.sync"] == 12, name
        elif "stationary" in name:  # z and delta; U and V of the output; V; of 7 steps the first z, U and the next z
            products = (8 * 2 + 1) + 4 * (2 + 2) + 4 + 7 * 3 * (4 * 2)
            assert words["shfl.sync"] == 6 and words["ld.acquire"] in (4, 8), name  # 4 waits; each may look twice
        else:
            rows, columns = map(int, name.split()[1].split("x"))
            steps = 4 if rows > 16 else 1  # of 8 words; the smallest tile's four slices have one each
            products = 3 * steps * (rows // 16) * (columns // 8) // (warps if rows > 16 else 1)
        mma = {"bf16": "m16n8k16.row.col.f32.bf16", "tf32": "m16n8k8.row.col.f32.tf32"}
        found = words[mma[precision]]
        short = "pass" in name or name.split()[1] == "16x16"
        assert found == products or (found > products and short), (name, found)
        assert sum(words[other] for other in mma.values()) == found, name
        assert words["cp.async.cg"] >= 6 and (words["ld.acquire"] > 0) == name.startswith("epoch"), name
        assert words["ldmatrix"] > 0 and (words[".trans"] > 0) == (precision == "bf16"), name
        assert (words["cvt.rna.tf32"] > 0, words["cvt.rn.bf16"] > 0) == (precision == "tf32", precision == "bf16"), name
        if machine is not None:
            hmma = {"bf16": "HMMA.16816.F32.BF16", "tf32": "HMMA.1688.F32.TF32"}[precision]
            assert machine[hmma] >= products and machine["LDSM.16"] == words["ldmatrix"], (name, machine)
            assert machine["LDGSTS"] >= 6 and machine["LDL"] == machine["STL"] == 0, (name, machine)
            if precision == "tf32" and rows >= 64:  # words of fragments at constant distances, no address made for each
                assert 2 * machine["LDS at a distance"] > machine["LDS"], (name, machine)
