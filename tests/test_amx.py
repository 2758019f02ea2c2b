"""The matrix registers of AMX on a processor without them: amx.py carries out what the kernels are compiled to."""

import json
import os
import platform
import re
import sys

import pytest
from cases import run_python
from llvmlite.binding import get_host_cpu_name

from fastmlp.cpu.compiling import host_features
from fastmlp.cpu.vector import HAS_AMX, HAS_BF16

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64" or not HAS_BF16,
    reason="needs Linux, x86-64 and AVX512-BF16, whose conversions the kernels use",
)

FOLDER = os.path.dirname(__file__)
EMULATOR = os.path.join(FOLDER, "amx.py")
# Not what is about other things than products and takes many of them.
TESTS = {
    "test_precision.py": "not estimate and not estimators and not command_line and not search and not instructions",
    "test_memory_safety.py": "test_zones and pairs",
}


@pytest.mark.skipif(HAS_AMX, reason="this processor has AMX: the tests themselves run on it")
@pytest.mark.parametrize("name", TESTS)
def test_precision(name):
    """All that bfloat16 promises, with sums in matrix registers: numbers, bits, buffers."""
    file = os.path.join(FOLDER, name)
    arguments = EMULATOR, "pytest", "-q", "-x", "-p", "no:cacheprovider", file, "-k", TESTS[name]
    found = run_python(*arguments, timeout=600)
    assert re.search(r"\d+ passed", found) and int(re.search(r"'products': (\d+)", found)[1]) > 10_000


def test_registers_are_set_up_once_a_pass(tmp_path):
    """A pass gives the registers their shape once, which takes as long as a dozen products, and leaves them.

    A tile has 16 rows once or twice, and one vector or two: it clears and stores as many registers as both together.
    Eq. 7 and 9 are in one pass, eq. 10 is in the other.
    """
    examples, weights = json.loads(run_python(EMULATOR, "instructions", FASTMLP_CACHE_DIR=str(tmp_path)))
    for found, equations in ((examples, 2), (weights, 1)):
        registers = equations * (1 + 2 + 2 + 4)
        assert found["ldtilecfg"] == found["tilerelease"] == 1
        assert found["tilezero"] == found["tilestored"] == registers and found["tdpbf16ps"] >= registers


@pytest.mark.skipif(HAS_AMX, reason="this processor has AMX")
def test_refused_registers_are_not_used():
    """Where the system does not let a process use the registers, kernels for a processor that has them do not."""
    code = "from fastmlp.cpu import compiling, vector; print(vector.HAS_AMX, 'amx-tile' in compiling.host_features())"
    features = ",".join(["+" + name for name in sorted(host_features())] + ["+amx-tile", "+amx-bf16"])
    found = run_python("-c", code, NUMBA_CPU_FEATURES=features, NUMBA_CPU_NAME=get_host_cpu_name())
    assert found.split() == ["False", "False"]
