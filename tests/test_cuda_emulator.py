"""The CUDA backend as it is on a GPU, on one that is emulated: compiled kernels, real launches, streams and graphs.

The simulator runs the kernels' Python; here it is what the compiler makes of them, with tiles as large as a GPU's.
"""

import importlib.util
import pathlib
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from cases import run_python

if importlib.util.find_spec("numba_cuda") is None:
    pytest.skip("CUDA Python (the extra cuda) is not installed", allow_module_level=True)
if sys.platform != "linux" or not (shutil.which("cc") or shutil.which("gcc")):
    pytest.skip("the emulated driver needs Linux and a C compiler", allow_module_level=True)

pytestmark = pytest.mark.compile

HERE = pathlib.Path(__file__).parent
TESTS = {  # of each file: precisions, tiles, ways of launching, what reads the data; all of it takes half an hour
    "test_cuda.py": "(plans and float32 and (3-1 or 1-0-one)) or chunks or graphs",
    "test_tensor_cores.py": "intrinsics or conversions or (rounded and (0-1 or 2-1 or 4-1))",
    "test_fused.py": "test_outputs or (test_shapes and 63)",
    "test_stationary.py": "not (test_tiles_agree or test_other_losses)",
}
MULTIPROCESSORS = {"test_stationary.py": "9"}  # a block for each 16 hidden units, and one more


@pytest.fixture(scope="module")
def answers():
    """What pytest prints of each file's tests."""

    def run(name):
        emulator = HERE / "cuda_emulator.py", MULTIPROCESSORS.get(name, "2"), "pytest", "-q", "-p", "no:cacheprovider"
        return run_python(*emulator, HERE / name, "-k", TESTS[name], timeout=900)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(TESTS, pool.map(run, TESTS), strict=True))


@pytest.mark.parametrize("name", TESTS)
def test_on_an_emulated_gpu(answers, name):
    """All pass, none of them for want of a GPU: numbers of the lecture, no races, no address of nobody's."""
    passed = re.search(r"(\d+) passed", answers[name])
    assert passed and int(passed[1]) >= 10 and "failed" not in answers[name]


LOOK = """
from cuda.bindings import nvvm
from fastmlp import devices
found = devices.look()
print(found.name, found.capability, devices.problem_of(found))
def version():
    raise RuntimeError("no libnvvm.so")
nvvm.version = version
print(devices.problem_of(devices.look()))
"""


def test_looking_for_it(tmp_path):
    """A GPU is found by its driver, and is of use only with a compiler."""
    (tmp_path / "look.py").write_text(LOOK)
    found, problem = run_python(HERE / "cuda_emulator.py", tmp_path / "look.py").splitlines()
    assert found == "Emulator (9, 0) None"
    assert "no libnvvm.so" in problem and "pip install" in problem and "there=True" in problem
