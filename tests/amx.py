"""AMX for a processor without it: its instructions are undefined there, and a handler of SIGILL carries them out.

    python tests/amx.py pytest ARGUMENTS
    python tests/amx.py instructions

The first runs tests in a process whose kernels are compiled for matrix registers, on Linux and x86-64; the second
counts AMX's instructions in the machine code of the passes of a training. The definitions are those
of Intel's Architecture Instruction Set Extensions manual: tiles of up to 16 rows of 64 bytes, a configuration of 64
bytes; every thread has its own. Numbers below the smallest normal one are zero.
"""

import ctypes
import json
import os
import re
import signal
import sys

FEATURES = ("amx-tile", "amx-bf16")

# What a thread has: its name, whether it is configured, rows and bytes a row of each tile, the tiles; and room for the
# factors of a product as float32 numbers
TILE = 16 * 64
THREAD, CONFIGURED, ROWS, BYTES, TILES = 0, 8, 16, 32, 64
LEFT, RIGHT, SUMS = TILES + 8 * TILE, TILES + 10 * TILE, TILES + 12 * TILE
STATE = TILES + 16 * TILE
STATES = 509  # a prime, so that threads whose stacks lie evenly apart have states of their own

# Where Linux's ucontext has the registers that an instruction names by number, and the instruction pointer, in words
GREGS = 5
NUMBERED = 13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7
RIP = GREGS + 16

LOADS, STORES, PRODUCTS, CONFIGURATIONS = range(4)


def prepare():
    """Let this process compile for AMX; before anything of fastmlp is imported."""
    import llvmlite.binding

    features = llvmlite.binding.get_host_cpu_features()
    for name in FEATURES:
        features[name] = True
    os.environ["NUMBA_CPU_FEATURES"] = features.flatten()
    os.environ["NUMBA_CPU_NAME"] = llvmlite.binding.get_host_cpu_name()

    class System(ctypes.CDLL):
        """One that lets this process use the registers."""

        def syscall(self, *numbers):
            return 0 if numbers == (158, 0x1023, 18) else super().__getattr__("syscall")(*numbers)

    own, ctypes.CDLL = ctypes.CDLL, System
    try:
        import fastmlp  # noqa: F401
    finally:
        ctypes.CDLL = own


def install():
    """Carry out AMX's instructions from now on; returns what counts them (see LOADS and so on)."""
    import numpy as np
    from numba import cfunc, njit, types

    from fastmlp.cpu.vector import numbers_at

    byte, short, word = (np.dtype(kind) for kind in (np.uint8, np.uint16, np.uint32))
    signed, integer, real, long = (np.dtype(kind) for kind in (np.int8, np.int32, np.float32, np.int64))
    memory, counts = np.zeros(STATE * STATES + 64, np.uint8), np.zeros(4, np.int64)
    states, count = memory.ctypes.data, counts.ctypes.data
    library = ctypes.CDLL(None)
    this_thread, die = library.pthread_self, library.abort
    this_thread.restype, this_thread.argtypes = ctypes.c_size_t, ()
    die.restype, die.argtypes = None, ()
    smallest = np.finfo(np.float32).tiny

    @njit
    def flushed(x):
        return np.float32(0) if abs(x) < smallest else x  # NaN stays NaN

    @njit
    def multiply_add(x, y, z):
        return flushed(np.float32(np.float64(x) * np.float64(y) + np.float64(z)))

    @njit
    def state_of_thread():
        thread = np.int64(this_thread())
        state = states + (thread >> 12) % STATES * STATE
        words = numbers_at(state, long)
        if words[THREAD] == 0:
            words[THREAD] = thread
        if words[THREAD] != thread:
            die()
        return state

    @njit
    def tile_at(state, tile):
        if numbers_at(state + CONFIGURED, byte)[0] != 1 or tile > 7:
            die()
        return state + TILES + tile * TILE

    @njit
    def copy(state, tile, place, stride, out):
        """Rows of a tile from memory, or to it."""
        rows, width = numbers_at(state + ROWS, byte)[tile], numbers_at(state + BYTES, short)[tile]
        for r in range(16):
            here = numbers_at(tile_at(state, tile) + r * 64, byte)
            there = numbers_at(place + r * stride, byte)
            for n in range(64):
                if r < rows and n < width:
                    if out:
                        there[n] = here[n]
                    else:
                        here[n] = there[n]
                elif not out:
                    here[n] = 0

    @njit
    def widen(tile, place):
        """The numbers of a tile of bfloat16 pairs as float32."""
        pairs, bits, numbers = numbers_at(tile, word), numbers_at(place, word), numbers_at(place, real)
        for n in range(TILE // 4):
            bits[2 * n], bits[2 * n + 1] = pairs[n] << 16, pairs[n] & 0xFFFF0000
            numbers[2 * n], numbers[2 * n + 1] = flushed(numbers[2 * n]), flushed(numbers[2 * n + 1])

    @njit
    def multiply(state, total, left, right):
        """TDPBF16PS: sums of a row's even and of its odd numbers, each in order, are added, and then to `total`."""
        rows, widths = numbers_at(state + ROWS, byte), numbers_at(state + BYTES, short)
        if rows[total] != rows[left] or widths[left] != 4 * rows[right] or widths[total] != widths[right]:
            die()
        widen(tile_at(state, left), state + LEFT)
        widen(tile_at(state, right), state + RIGHT)
        x, y, sums = numbers_at(state + LEFT, real), numbers_at(state + RIGHT, real), numbers_at(state + SUMS, real)
        z = numbers_at(tile_at(state, total), real)
        for m in range(rows[total]):
            for n in range(32):
                sums[n] = np.float32(0)
            for k in range(rows[right]):
                for n in range(widths[right] // 4):
                    for half in range(2):
                        factor = x[m * 32 + 2 * k + half], y[k * 32 + 2 * n + half]
                        sums[2 * n + half] = multiply_add(factor[0], factor[1], sums[2 * n + half])
            for n in range(widths[total] // 4):
                z[m * 16 + n] = flushed(z[m * 16 + n] + flushed(sums[2 * n] + sums[2 * n + 1]))

    @njit
    def configure(state, place):
        """LDTILECFG: all tiles become zero."""
        given = numbers_at(place, byte)
        numbers_at(state + CONFIGURED, byte)[0] = given[0]
        for tile in range(8):
            numbers_at(state + BYTES, short)[tile] = given[16 + 2 * tile] + 256 * given[17 + 2 * tile]
            numbers_at(state + ROWS, byte)[tile] = given[48 + tile]
            if given[48 + tile] > 16 or numbers_at(state + BYTES, short)[tile] > 64:
                die()
        for n in range(8 * TILE):
            numbers_at(state + TILES, byte)[n] = 0

    @cfunc(types.void(types.int32, types.intp, types.CPointer(types.int64)))
    def carry_out(number, information, context):
        at = context[RIP]
        code = numbers_at(at, byte)
        if code[0] != 0xC4 or code[1] & 31 != 2 or code[2] & 0x84 != 0:  # VEX, map 0F38, 128 bits, W0
            die()
        prefix, other, operation = code[2] & 3, 15 - (code[2] >> 3 & 15), code[3]
        mode, reg, rm = code[4] >> 6, code[4] >> 3 & 7, code[4] & 7
        length, place, stride = 5, 0, 0
        if mode != 3:
            if rm == 4:
                scale, index, base = code[5] >> 6, code[5] >> 3 & 7, code[5] & 7
                index += 0 if code[1] & 0x40 else 8
                length = 6
                if index != 4:
                    stride = context[GREGS + NUMBERED[index]] << scale
            else:
                base = rm
            if mode == 0 and base == 5:
                place = np.int64(numbers_at(at + length, integer)[0])
                length += 4
                if rm == 5:
                    place += at + length
            else:
                place = context[GREGS + NUMBERED[base + (0 if code[1] & 0x20 else 8)]]
                if mode == 1:
                    place += numbers_at(at + length, signed)[0]
                    length += 1
                elif mode == 2:
                    place += numbers_at(at + length, integer)[0]
                    length += 4
        state, counted = state_of_thread(), numbers_at(count, long)
        if operation == 0x49 and prefix == 0 and mode != 3:
            configure(state, place)
            counted[CONFIGURATIONS] += 1
        elif operation == 0x49 and prefix == 0 and code[4] == 0xC0:  # TILERELEASE
            numbers_at(state + CONFIGURED, byte)[0] = 0
        elif operation == 0x49 and prefix == 3 and mode == 3:  # TILEZERO
            for n in range(TILE):
                numbers_at(tile_at(state, reg), byte)[n] = 0
        elif operation == 0x4B and prefix in (1, 3) and rm == 4:  # TILELOADD, with a hint or without
            copy(state, reg, place, stride, False)
            counted[LOADS] += 1
        elif operation == 0x4B and prefix == 2 and rm == 4:  # TILESTORED
            copy(state, reg, place, stride, True)
            counted[STORES] += 1
        elif operation == 0x5C and prefix == 2 and mode == 3:
            multiply(state, reg, rm, other)
            counted[PRODUCTS] += 1
        else:
            die()
        context[RIP] = at + length

    class Action(ctypes.Structure):
        _fields_ = [
            ("handler", ctypes.c_void_p),
            ("mask", ctypes.c_ubyte * 128),
            ("flags", ctypes.c_int),
            ("restorer", ctypes.c_void_p),
        ]

    with_information, nested = 4, 0x40000000
    action = Action(handler=carry_out.address, flags=with_information | nested)
    if library.sigaction(int(signal.SIGILL), ctypes.byref(action), None) != 0:
        raise OSError("SIGILL cannot be handled")
    install.kept = memory, counts, carry_out
    return counts


def run(arguments):
    """Run pytest like this; returns its exit status, an error too where no product was multiplied."""
    import pytest

    from fastmlp.cpu import vector

    assert vector.HAS_AMX and vector.TALL_ROWS == 32
    counts = install()
    status = pytest.main(["-p", "no:faulthandler", *arguments])
    print(dict(zip(("loads", "stores", "products", "configurations"), counts.tolist(), strict=True)))
    return status or int(counts[PRODUCTS] == 0)


def instructions():
    """How often the machine code of the passes over the examples and the weights has each of AMX's instructions."""
    import numpy as np

    from fastmlp.cpu.epoch import compiled_passes

    code = [compiled._library.get_asm_str() for compiled in compiled_passes(np.dtype(np.float32), "bf16")]
    names = "ldtilecfg", "tilerelease", "tilezero", "tdpbf16ps", "tilestored"
    return [{name: len(re.findall(rf"\t{name}\b", text)) for name in names} for text in code]


if __name__ == "__main__":
    prepare()
    if sys.argv[1] == "pytest":
        sys.exit(run(sys.argv[2:]))
    print(json.dumps(instructions()))
