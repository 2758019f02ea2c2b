"""A tile of a product of two matrices: the loop that forward, backward and accumulate have in common.

C[r, c] = sum_k A[r, k] B[k, c] for shape.rows x shape.columns entries. The terms come by in steps of shape.depth(real)
ks: copies into a ring in shared memory are under way for the next steps while the threads multiply what has arrived.
Each thread has a block of sums in registers; where there are few entries, the ks of a step are dealt to
slices of threads, whose sums are added at the end in a fixed order.
"""

from typing import Any, NamedTuple

from numba import cuda

from fastmlp.cuda.compiling import device
from fastmlp.cuda.layout import Shape, lanes, ring_size
from fastmlp.cuda.ptx import commit_copies, copy_async, copy_vector, load_vector, thread, wait_copies


class Product(NamedTuple):
    """How a tile is multiplied, and where its entries are: `multiply`, then for each part of its rows `collect`.

    multiply(ring, sums, A, B, depth)
        A and B are (array, place, stride, count): rows (or columns) from count on are taken as zeros. `sums` is a
        local array of the thread's n_sums sums. All threads of the block call it.
    collect(ring, sums, part)
        Put a part of the tile's rows, part_rows of them, into the ring; all threads call it.
    entry(ring, line, c)
        C[part * part_rows + line, c], after `collect`. A thread takes the columns thread() % width + width, + 2 width,
        ..., and of each the lines thread() // width, + line_step, ...
    """

    multiply: Any
    collect: Any
    entry: Any
    n_sums: int
    parts: int
    part_rows: int
    width: int
    line_step: int


def product(real: type, shape: Shape, a_by_row: bool, b_by_row: bool, resident: bool) -> Product:
    """The functions for factors whose ks follow one another in memory (by row: A[r, k], B[c, k]) or whose rs and cs do.

    resident: whether the factors are in shared memory, too.
    """
    rows, columns, slices, rows_each, columns_each, stages, _ = shape
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
    b_lines = threads // b_line  # lines that all threads bring at once
    step_size = a_size + b_size
    n_sums, a_fragment, b_fragment = rows_each * columns_each, rows_each * vector, columns_each * vector
    a_vectors, b_vectors = rows_each // vector, columns_each // vector
    zero = real(0)
    copy = copy_vector if resident else copy_async
    wait, wait_for_all = wait_copies(stages - 2), wait_copies(0)
    parts = rows_each // vector
    part_rows, sums_each = rows // parts, vector
    width = min(threads, columns)
    assert depth_each in (vector, 2 * vector, 4 * vector) and threads % b_line == 0
    assert parts <= 2 and slices * part_rows * columns <= ring_size(shape, real)

    @device
    def multiply_vector(ring, sums, a, b, first, second, y, x, q):
        """Add the terms q, q + 1, ... of a vector; a and b are room for the thread's factors."""
        if a_by_row:
            for i in range(rows_each):
                load_vector(a, i * vector, ring, first + (y + i * down) * a_stride + q)
        else:
            for v in range(vector):
                for i in range(a_vectors):
                    place = first + (q + v) * a_stride + (y + i * down) * vector
                    load_vector(a, v * rows_each + i * vector, ring, place)
        if b_by_row:
            for j in range(columns_each):
                load_vector(b, j * vector, ring, second + (x + j * across) * b_stride + q)
        else:
            for v in range(vector):
                for j in range(b_vectors):
                    place = second + (q + v) * b_stride + (x + j * across) * vector
                    load_vector(b, v * columns_each + j * vector, ring, place)
        for v in range(vector):
            for i in range(rows_each):
                for j in range(columns_each):
                    sums[i * columns_each + j] += (
                        a[i * vector + v if a_by_row else v * rows_each + i]
                        * b[j * vector + v if b_by_row else v * columns_each + j]
                    )

    @device
    def multiply(ring, sums, A, B, terms):
        a = cuda.local.array(a_fragment, real)
        b = cuda.local.array(b_fragment, real)
        t = thread()
        part, y, x = t // group, t % group // across, t % group % across
        # this thread's vector of A's step, and its vectors of B's: where they are, where they go, which terms they are
        a_array, first, stride, a_count = A
        line, at = t // a_line, t % a_line * vector
        a_from, a_step = first + line * stride + at, depth if a_by_row else depth * stride
        a_to, a_there = line * a_stride + at, (line if a_by_row else at) < a_count
        a_term = at if a_by_row else line
        b_array, first, stride, count = B
        line, at = t // b_line, t % b_line * vector
        b_from, b_step = first + line * stride + at, depth if b_by_row else depth * stride
        b_to, b_jump = a_size + line * b_stride + at, b_lines * stride
        b_place, b_term = line if b_by_row else at, at if b_by_row else line
        for n in range(n_sums):
            sums[n] = zero
        cuda.syncthreads()  # the ring is free
        place = 0
        # each round brings a step of terms and, once the ring is full, multiplies the oldest
        for k in range(0, terms + (stages - 1) * depth, depth):
            if k >= (stages - 1) * depth:
                wait()
                cuda.syncthreads()
            wanted = a_there and k + a_term < terms
            copy(ring, place + a_to, a_array, a_from, wanted)
            a_from += a_step
            for n in range(b_copies):
                if b_by_row:
                    wanted = b_place + n * b_lines < count and k + b_term < terms
                else:
                    wanted = b_place < count and k + b_term + n * b_lines < terms
                copy(ring, place + b_to + n * b_lines * b_stride, b_array, b_from + n * b_jump, wanted)
            b_from += b_step
            commit_copies()
            place = place + step_size if place < (stages - 1) * step_size else 0
            if k < (stages - 1) * depth:
                continue
            first = place + part * depth_each * (1 if a_by_row else a_stride)
            second = place + a_size + part * depth_each * (1 if b_by_row else b_stride)
            # a loop, written out: the compiler leaves it one
            multiply_vector(ring, sums, a, b, first, second, y, x, 0)
            if depth_each > vector:
                multiply_vector(ring, sums, a, b, first, second, y, x, vector)
            if depth_each > 2 * vector:
                multiply_vector(ring, sums, a, b, first, second, y, x, 2 * vector)
                multiply_vector(ring, sums, a, b, first, second, y, x, 3 * vector)
        wait_for_all()  # copies of nothing, behind the last term, write zeros

    @device
    def put(ring, sums, part):
        """A thread's sums of a part of the rows into the ring; a constant part keeps the sums in registers."""
        t = thread()
        piece, place = t // group, t % group
        y, x = place // across, place % across
        for i in range(sums_each):
            n = part * sums_each + i
            r = y + n * down if a_by_row else n // vector * down * vector + y * vector + n % vector
            for j in range(columns_each):
                c = x + j * across if b_by_row else j // vector * across * vector + x * vector + j % vector
                ring[(piece * part_rows + r - part * part_rows) * columns + c] = sums[n * columns_each + j]

    @device
    def collect(ring, sums, part):
        cuda.syncthreads()  # what was in the ring has been read
        if parts == 1 or part == 0:
            put(ring, sums, 0)
        else:
            put(ring, sums, 1)
        cuda.syncthreads()

    @device
    def entry(ring, line, c):
        total = ring[line * columns + c]
        for piece in range(1, slices):
            total += ring[(piece * part_rows + line) * columns + c]
        return total

    return Product(multiply, collect, entry, n_sums, parts, part_rows, width, threads // width)
