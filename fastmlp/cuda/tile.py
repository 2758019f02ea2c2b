"""A tile of a product of two matrices: the loop that forward, backward and accumulate have in common.

C[r, c] = sum_k A[r, k] B[k, c] for shape.rows x shape.columns entries. The terms come by in steps of shape.depth(real)
ks: copies into a ring in shared memory are under way for the next steps while the threads multiply what has arrived.
Each thread has a block of sums in registers; where there are few entries, the ks of a step are dealt to
slices of threads, whose sums are added at the end in a fixed order.
"""

from typing import NamedTuple

from numba import cuda

from fastmlp.cuda.compiling import device
from fastmlp.cuda.layout import Shape, lanes, ring_size
from fastmlp.cuda.ptx import commit_copies, copy_async, copy_vector, load_vector, thread, wait_copies


class Product(NamedTuple):
    """How a tile is multiplied: `multiply`, then for each part of its rows `collect` and `entry`."""

    multiply: object
    collect: object
    entry: object
    parts: int  # of the rows of a tile
    entries: int  # of a part, for each thread


def product(real: type, shape: Shape, a_by_row: bool, b_by_row: bool, resident: bool) -> Product:
    """The functions for factors whose ks follow one another in memory (by row: A[r, k], B[c, k]) or whose rs and cs do.

    multiply(ring, sums, A, B, depth)
        A and B are (array, place, stride, count): rows (or columns) from count on are taken as zeros. `sums` is a
        local array of the thread's sums. All threads of the block call it.
    collect(ring, sums, part)
        Put a part of the tile's rows into the ring; all threads call it.
    entry(ring, part, n)
        (row, column, value) of the thread's n-th entry of the part, after `collect`.
    """
    rows, columns, slices, rows_each, columns_each, stages = shape
    vector, threads, depth = lanes(real), shape.threads, shape.depth(real)
    across, down = columns // columns_each, rows // rows_each
    group = across * down
    depth_each = depth // slices
    a_stride = depth + vector if a_by_row else rows
    b_stride = depth + vector if b_by_row else columns
    a_line = (depth if a_by_row else rows) // vector  # vectors in a line of A's step, as in B's
    b_line = (depth if b_by_row else columns) // vector
    a_size = (rows if a_by_row else depth) * a_stride
    b_size = (columns if b_by_row else depth) * b_stride
    b_copies = columns * depth // vector // threads
    step_size = a_size + b_size
    n_sums = rows_each * columns_each
    a_fragment = rows_each * vector if a_by_row else rows_each
    b_fragment = columns_each * vector if b_by_row else columns_each
    a_vectors, b_vectors = rows_each // vector, columns_each // vector
    zero = real(0)
    copy = copy_vector if resident else copy_async
    wait, wait_for_all = wait_copies(stages - 2), wait_copies(0)
    parts = rows_each // vector
    part_rows, sums_each = rows // parts, vector
    assert depth_each % vector == 0 and slices * part_rows * columns <= ring_size(shape, real)
    entries = part_rows * columns // threads

    @device
    def fetch(ring, place, A, B, k, depth_left):
        """Copies of the terms k, k + 1, ... of both factors to ring[place]."""
        t = thread()
        a, first, stride, count = A
        line = t // a_line
        at = t % a_line * vector
        if a_by_row:
            wanted = line < count and at < depth_left
            copy(ring, place + line * a_stride + at, a, first + line * stride + k + at if wanted else 0, wanted)
        else:
            wanted = at < count and line < depth_left
            copy(ring, place + line * a_stride + at, a, first + (k + line) * stride + at if wanted else 0, wanted)
        b, first, stride, count = B
        for n in range(b_copies):
            line = (t + n * threads) // b_line
            at = (t + n * threads) % b_line * vector
            to = place + a_size + line * b_stride + at
            if b_by_row:
                wanted = line < count and at < depth_left
                copy(ring, to, b, first + line * stride + k + at if wanted else 0, wanted)
            else:
                wanted = at < count and line < depth_left
                copy(ring, to, b, first + (k + line) * stride + at if wanted else 0, wanted)
        commit_copies()

    @device
    def multiply(ring, sums, A, B, depth_in_all):
        a = cuda.local.array(a_fragment, real)
        b = cuda.local.array(b_fragment, real)
        t = thread()
        part, place = t // group, t % group
        y, x = place // across, place % across
        for n in range(n_sums):
            sums[n] = zero
        cuda.syncthreads()  # the ring is free
        for n in range(stages - 1):
            fetch(ring, n * step_size, A, B, n * depth, depth_in_all - n * depth)
        here, there = 0, (stages - 1) * step_size
        for k in range(0, depth_in_all, depth):
            wait()
            cuda.syncthreads()
            ahead = k + (stages - 1) * depth
            fetch(ring, there, A, B, ahead, depth_in_all - ahead)
            last = min(depth, depth_in_all - k)
            for q in range(part * depth_each, min(part * depth_each + depth_each, last), vector):
                if a_by_row:
                    for i in range(rows_each):
                        load_vector(a, i * vector, ring, here + (y + i * down) * a_stride + q)
                if b_by_row:
                    for j in range(columns_each):
                        load_vector(b, j * vector, ring, here + a_size + (x + j * across) * b_stride + q)
                for v in range(vector):
                    if not a_by_row:
                        for i in range(a_vectors):
                            load_vector(a, i * vector, ring, here + (q + v) * a_stride + (y + i * down) * vector)
                    if not b_by_row:
                        for j in range(b_vectors):
                            load_vector(
                                b, j * vector, ring, here + a_size + (q + v) * b_stride + (x + j * across) * vector
                            )
                    for i in range(rows_each):
                        for j in range(columns_each):
                            sums[i * columns_each + j] += (
                                a[i * vector + v if a_by_row else i] * b[j * vector + v if b_by_row else j]
                            )
            there = here
            here = here + step_size if here < (stages - 1) * step_size else 0
        wait_for_all()  # copies of nothing, behind the last term, write zeros

    @device
    def collect(ring, sums, part):
        t = thread()
        piece, place = t // group, t % group
        y, x = place // across, place % across
        cuda.syncthreads()  # what was in the ring has been read
        for p in range(parts):  # a constant index keeps the sums in registers
            if p == part:
                for i in range(sums_each):
                    n = p * sums_each + i
                    r = y + n * down if a_by_row else n // vector * down * vector + y * vector + n % vector
                    for j in range(columns_each):
                        c = x + j * across if b_by_row else j // vector * across * vector + x * vector + j % vector
                        ring[(piece * part_rows + r - p * part_rows) * columns + c] = sums[n * columns_each + j]
        cuda.syncthreads()

    @device
    def entry(ring, part, n):
        place = thread() + n * threads
        total = ring[place]
        for piece in range(1, slices):
            total += ring[piece * part_rows * columns + place]
        return part * part_rows + place // columns, place % columns, total

    return Product(multiply, collect, entry, parts, entries)
