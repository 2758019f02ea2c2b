"""The matrix registers of AMX on a processor without them: amx.py carries out what the kernels are compiled to."""

import json
import os
import platform
import re
import sys

import pytest
from cases import run_python

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


def test_registers_hold_the_sums(tmp_path):
    """Each product is there once, and no register is copied or spilled.

    A tile has rows of 16 times 1 or 2, and vectors 1 or 2: for each, products as many as both together, a load for each
    of a row or a vector, and a store for each product, when the sum is done. Eq. 7 and 9 are in one pass, eq. 10 in the
    other.
    """
    examples, weights = json.loads(run_python(EMULATOR, "instructions", FASTMLP_CACHE_DIR=str(tmp_path)))
    assert weights == {"tdpbf16ps": 1 + 2 + 2 + 4, "tileloadd": 2 + 3 + 3 + 4, "tilestored": 1 + 2 + 2 + 4}
    assert examples == {name: 2 * count for name, count in weights.items()}
