"""How many instructions does a step take on a GPU? Counted on an emulated one, so that no GPU is needed.

    pip install -e ".[cuda,test]" && python benchmarks/gpu_instructions.py

An epoch of two minibatches is run as on 132 multiprocessors, by the kernel that all its blocks share, and what the
compiler has made of it (PTX) is counted. Of one minibatch it says, stage by stage, how many instructions the warp
issues that has most to do, not counting what it does between its arrival at the barrier and the last block's; of both,
how many all warps issue for each product of tensor cores (mma) or each multiply-add (fma), and how many times as long
as need be shared memory's banks take. These are counts, not times: latencies, caches, and what NVIDIA's assembler makes
of it are not in them. --lines N says which lines of the source they come from. All cases are saved to
results/gpu_instructions.json.
"""

import argparse
import collections
import linecache
import sys
from pathlib import Path

import numpy as np

from machine import RESULTS, ROOT, describe, save

sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import cuda_emulator  # noqa: E402
import ptx_machine  # noqa: E402

MULTIPROCESSORS = 132
CASES = {  # sizes, minibatch, f, output
    "fused-64x4-b16384": ((64,) * 5, 16384, "relu", "identity"),
    "mnist-784-128-10-b64": ((784, 128, 10), 64, "relu", "softmax"),
    "practice-64-100-10-b200": ((64, 100, 10), 200, "relu", "softmax"),
}
PRECISIONS = ("float32", "tf32", "bf16")


class StageCounts(ptx_machine.Counts):
    """Counts, and for each block how many instructions its busiest warp issues between two barriers of the grid."""

    def __init__(self):
        super().__init__()
        self.longest, self._issued = collections.defaultdict(list), {}

    def issued(self, block, operation, line, warps):
        super().issued(block, operation, line, warps)
        issued = self._issued.setdefault(block.number, np.zeros(block.warps, np.int64))
        issued += warps
        if operation.startswith("red.release"):
            self.longest[block.number].append(int(issued.max()))
        if operation.startswith("ld.acquire"):  # it has waited for the others
            issued[:] = 0


def count(driver, case, precision):
    """The counts of one of two minibatches of a case, as a dict, and those of both."""
    import fastmlp
    from fastmlp.cuda import launch

    sizes, batch, activation, output = CASES[case]
    launch.mode_of = lambda plan: launch.ALONE if plan.resident else launch.COOPERATIVE
    r = np.random.default_rng(0)
    X = r.standard_normal((2 * batch, sizes[0])).astype(np.float32)
    T = np.eye(sizes[-1], dtype=np.float32)[r.integers(0, sizes[-1], 2 * batch)]
    loss = "log_loss" if output == "softmax" else "squared_error"
    net = fastmlp.Network(
        sizes, activation=activation, output=output, loss=loss, device="cuda", precision=precision, random_state=0
    )
    driver.counts = counts = StageCounts()
    net.train(X, T, optimizer=fastmlp.SGD(0.1), batch_size=batch, epochs=1, shuffle=False)
    driver.counts = None
    stages = max(map(len, counts.longest.values()), default=0)
    table = np.array([blocks + [0] * (stages - len(blocks)) for blocks in counts.longest.values()])
    longest = table.max(axis=0).tolist() if stages else []
    each = (stages - stages % 2) // 2  # the first stage gathers the first minibatch
    products = sum(n for name, n in counts.instructions.items() if name.startswith("mma."))
    multiplied = products or sum(n for name, n in counts.instructions.items() if name.startswith("fma.rn"))
    found = {
        "stages": longest[stages - each :],
        "longest": sum(longest[stages - each :]),
        "instructions": sum(counts.instructions.values()),
        "per mma" if products else "per fma": sum(counts.instructions.values()) / multiplied,
        "bank cycles": counts.cycles / counts.least,
    }
    return found, counts


def show_lines(counts, number):
    """The lines of the source that most instructions come from."""
    for (file, line), instructions in counts.lines.most_common(number):
        print(f"{instructions:>10} {Path(file).name}:{line} {linecache.getline(file, line).strip()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="*", default=[*CASES], help="some of " + ", ".join(CASES))
    parser.add_argument("--precisions", nargs="*", default=PRECISIONS, help="some of " + ", ".join(PRECISIONS))
    parser.add_argument("--lines", type=int, default=0, help="how many lines of the source to show of each")
    arguments = parser.parse_args()
    driver = cuda_emulator.install(MULTIPROCESSORS, lines=arguments.lines > 0)
    results = {}
    for case in arguments.cases:
        for precision in arguments.precisions:
            results[f"{case} {precision}"], counts = count(driver, case, precision)
            print(case, precision, results[f"{case} {precision}"])
            show_lines(counts, arguments.lines)
    if arguments.cases == [*CASES] and tuple(arguments.precisions) == PRECISIONS:
        save({"machine": describe(), "instructions": results}, RESULTS / "gpu_instructions.json")
    sys.stdout.flush()
    cuda_emulator.leave(0)


if __name__ == "__main__":
    main()
