"""A tile of a product on tensor cores, in TF32 or bfloat16: what forward, backward and accumulate have in common.

C[r, c] = sum_k A[r, k] B[k, c] as in tile.py: steps of the terms come by in a ring in shared memory, by asynchronous
copies. Here each warp has a rectangle of the tile, of products of 16 x 8 sums over 8 words of terms (8 numbers of TF32
or 16 of bfloat16), whose fragments are laid out as in warp.py; the sums are float32, in registers. Both precisions read
the same words: where the terms follow one another in memory, by ldmatrix; where they do not, by ldmatrix.trans in
bfloat16, and word by word in TF32. Places are in words, addresses in bytes.

TF32's numbers lie in memory as the float32 that they are, and are rounded as a fragment is loaded: rounded copies would
take twice the memory and its traffic. The rounding is two instructions a word on compute capability 9.0 (a comparison,
which keeps NaN, and an addition where that allows it), for several products.
"""

from typing import Any

from numba import cuda, int32, uint32

from fastmlp.cuda import tile
from fastmlp.cuda.compiling import device
from fastmlp.cuda.fragments import VECTOR_WORDS, WORD_BYTES, ZERO, four, put_four
from fastmlp.cuda.layout import Shape, TileShape, WarpShape
from fastmlp.cuda.ptx import (
    commit_copies,
    copy_async_at,
    global_address,
    load_matrices,
    load_matrices_transposed,
    load_word,
    mma_bf16,
    mma_tf32,
    shared_address,
    tf32,
    thread,
    wait_copies,
)
from fastmlp.cuda.tile import Product
from fastmlp.cuda.warp import LANES

PRODUCT_ROWS, PRODUCT_COLUMNS, PRODUCT_WORDS = 16, 8, 8  # of an mma


def product(real: type, shape: TileShape, a_by_row: bool, b_by_row: bool, resident: bool) -> Product:
    """The functions of a tile of either sort, as `tile.product` describes them; A and B are in words here."""
    if isinstance(shape, Shape):
        return tile.product(real, shape, a_by_row, b_by_row, resident)
    assert not resident
    return _product(shape, a_by_row, b_by_row)


def _product(shape: WarpShape, a_by_row: bool, b_by_row: bool) -> Product:
    rows, columns, slices, threads = shape.rows, shape.columns, shape.slices, shape.threads
    stages, words, per_word, depth = shape.stages, shape.words, shape.per_word, shape.depth(None)
    down, across = shape.rows_each // PRODUCT_ROWS, shape.columns_each // PRODUCT_COLUMNS
    warps_across, warps = columns // shape.columns_each, threads // LANES // slices
    a_size, step_size = shape.step_words(a_by_row, b_by_row)[0], sum(shape.step_words(a_by_row, b_by_row))
    step_bytes, before = step_size * WORD_BYTES, (stages - 1) * depth  # before: terms brought before any is multiplied
    a_line, b_line = shape.line(rows, a_by_row), shape.line(columns, b_by_row)
    words_each = words // slices  # terms of a step that a slice multiplies, in words
    n_sums, n_a, n_b = 4 * down * across, 4 * down, 2 * across
    in_bf16 = per_word == 2
    mma = mma_bf16 if in_bf16 else mma_tf32
    wait, wait_for_all = wait_copies(stages - 2), wait_copies(0)
    rows_each, columns_each = shape.rows_each, shape.columns_each
    width, sums_line = min(threads, columns), shape.sums_line
    assert across % 2 == 0 and words_each in (8, 16, 32) and threads % width == 0
    assert stages * step_size <= shape.ring_words() and slices * rows * sums_line <= shape.ring_words()
    (aim_a, bring_a), (aim_b, bring_b) = _bringer(shape, rows, a_by_row, 0), _bringer(shape, columns, b_by_row, a_size)

    @device
    def own_a(lane):
        """How far into A's fragments a lane finds its words, or its row for ldmatrix, in bytes."""
        if a_by_row:
            return (lane % 16 * a_line + lane // 16 * 4) * WORD_BYTES
        if in_bf16:
            return ((lane // 16 * 8 + lane % 8) * a_line + lane // 8 % 2 * 4) * WORD_BYTES
        return (lane % 4 * a_line + lane // 4) * WORD_BYTES

    @device
    def own_b(lane):
        """The same of B."""
        if b_by_row:
            return ((lane // 16 * 8 + lane % 8) * b_line + lane // 8 % 2 * 4) * WORD_BYTES
        if in_bf16:
            return (lane % 16 * b_line + lane // 16 * 4) * WORD_BYTES
        return (lane % 4 * b_line + lane // 4) * WORD_BYTES

    @device
    def load_a(ring, a, address):
        """The fragments of A for a product of 8 words of terms; the address is that of the lane's first word."""
        if a_by_row:
            for i in range(down):
                put_four(a, 4 * i, load_matrices(ring, address + i * (PRODUCT_ROWS * a_line * WORD_BYTES)))
        elif in_bf16:
            for i in range(down):
                put_four(a, 4 * i, load_matrices_transposed(ring, address + i * (PRODUCT_ROWS // 2 * WORD_BYTES)))
        else:
            for i in range(down):
                for n in range(4):  # rows + 0 and + 8, terms + 0 and + 4
                    place = i * PRODUCT_ROWS + n % 2 * 8 + n // 2 * 4 * a_line
                    a[4 * i + n] = load_word(ring, address, place)
        if not in_bf16:
            for n in range(n_a):
                a[n] = tf32(a[n])

    @device
    def load_b(ring, b, address):
        """The fragments of B; two products' by an ldmatrix."""
        if b_by_row:
            for j in range(across // 2):
                put_four(b, 4 * j, load_matrices(ring, address + j * (2 * PRODUCT_COLUMNS * b_line * WORD_BYTES)))
        elif in_bf16:
            for j in range(across // 2):
                put_four(b, 4 * j, load_matrices_transposed(ring, address + j * (PRODUCT_COLUMNS * WORD_BYTES)))
        else:
            for j in range(across):
                b[2 * j] = load_word(ring, address, j * PRODUCT_COLUMNS)
                b[2 * j + 1] = load_word(ring, address, j * PRODUCT_COLUMNS + 4 * b_line)
        if not in_bf16:
            for n in range(n_b):
                b[n] = tf32(b[n])

    @device
    def multiply_words(ring, sums, a, b, first, second, k):
        """Add the terms of 8 words, k words into what is the warp's of a step."""
        load_a(ring, a, first + k * (1 if a_by_row else per_word * a_line) * WORD_BYTES)
        load_b(ring, b, second + k * (1 if b_by_row else per_word * b_line) * WORD_BYTES)
        for j in range(across):
            for i in range(down):
                n = 4 * (i * across + j)
                put_four(sums, n, mma(four(a, 4 * i), (b[2 * j], b[2 * j + 1]), four(sums, n)))

    @device
    def multiply(ring, sums, A, B, terms):
        a = cuda.local.array(n_a, uint32)
        b = cuda.local.array(n_b, uint32)
        t = thread()
        number, lane = t // LANES, t % LANES
        part, place = number // warps, number % warps
        y, x = place // warps_across * rows_each, place % warps_across * columns_each
        start = part * words_each
        first = y * a_line + start if a_by_row else start * per_word * a_line + y // per_word
        second = x * b_line + start if b_by_row else start * per_word * b_line + x // per_word
        first = shared_address(ring, first) + uint32(own_a(lane))
        second = shared_address(ring, a_size + second) + uint32(own_b(lane))
        a_source, a_target, a_left = aim_a(ring, A, terms, t)
        b_source, b_target, b_left = aim_b(ring, B, terms, t)
        a_step = (words if a_by_row else depth * A[2]) * WORD_BYTES
        b_step = (words if b_by_row else depth * B[2]) * WORD_BYTES
        for n in range(n_sums):
            sums[n] = ZERO
        cuda.syncthreads()  # the ring is free
        at, k, end = uint32(0), int32(0), int32(terms + before)
        # each round brings a step of terms and, once the ring is full, multiplies the oldest
        while k < end:
            if k >= before:
                wait()
                cuda.syncthreads()
            bring_a(ring, a_target + at, A, a_source, a_left, k)
            bring_b(ring, b_target + at, B, b_source, b_left, k)
            a_source, b_source = a_source + a_step, b_source + b_step
            commit_copies()
            at = uint32(at + step_bytes) if at < (stages - 1) * step_bytes else uint32(0)
            k = int32(k + depth)  # terms brought so far
            if k <= before:
                continue
            # a loop, written out: the compiler leaves it one
            here, there = first + at, second + at
            multiply_words(ring, sums, a, b, here, there, 0)
            if words_each > 8:
                multiply_words(ring, sums, a, b, here, there, 8)
            if words_each > 16:
                multiply_words(ring, sums, a, b, here, there, 16)
                multiply_words(ring, sums, a, b, here, there, 24)
        wait_for_all()  # copies of nothing, behind the last term, write zeros

    @device
    def collect(ring, sums, part):
        cuda.syncthreads()  # what was in the ring has been read
        number, lane = thread() // LANES, thread() % LANES
        piece, place = number // warps, number % warps
        y, x = place // warps_across * rows_each + lane // 4, place % warps_across * columns_each + lane % 4 * 2
        corner = (piece * rows + y) * sums_line + x
        for i in range(down):
            for j in range(across):
                for n in range(4):
                    entry_at = (i * PRODUCT_ROWS + n // 2 * 8) * sums_line + j * PRODUCT_COLUMNS + n % 2
                    ring[corner + entry_at] = sums[4 * (i * across + j) + n]
        cuda.syncthreads()

    @device
    def entry(ring, line, c):
        total = ring[line * sums_line + c]
        for piece in range(1, slices):
            total += ring[(piece * rows + line) * sums_line + c]
        return total

    return Product(multiply, collect, entry, n_sums, 1, rows, width, threads // width)


def _bringer(shape: WarpShape, count: int, by_row: bool, begin: int) -> Any:
    """(aim, bring): copies of a step of terms of a factor's `count` rows, to `begin` words behind a place in the ring.

    The factor is (array, place, stride, count), in words but for the count: rows from that on become zeros, as do terms
    from `terms` on. A thread copies a vector of each `lines_each`-th line. aim(ring, factor, terms, t) is where a
    thread's first vector is, where it goes in the ring's first step (addresses), and how many terms there are from it
    on, none for rows that there are not; bring(ring, target, factor, source, left, k) begins the copies of the terms
    from the k-th on. What changes from step to step is of 32 bits where it can be: numbers of 64 take two instructions.
    """
    per_word, depth, line_words = shape.per_word, shape.depth(None), shape.line(count, by_row)
    vectors = (shape.words if by_row else count // per_word) // VECTOR_WORDS  # of a line
    lines, numbers = count if by_row else depth, VECTOR_WORDS * per_word  # of the step; in a vector
    lines_each = shape.threads // vectors
    copies = lines // lines_each
    assert lines_each * vectors == shape.threads and copies * lines_each == lines

    @device
    def aim(ring, factor, terms, t):
        array, place, stride, there = factor
        line, vector = t // vectors, t % vectors
        source = global_address(array, place + line * stride + vector * VECTOR_WORDS)
        target = shared_address(ring, begin + line * line_words + vector * VECTOR_WORDS)
        if by_row:
            return source, target, int32(terms - vector * numbers if line < there else 0)
        return source, target, int32(terms - line if vector * numbers < there else 0)

    @device
    def bring(ring, target, factor, source, left, k):
        array, _, stride, there = factor
        for n in range(copies):
            if by_row:
                wanted = k < left and (n == 0 or thread() // vectors + n * lines_each < there)
            else:
                wanted = int32(k + n * lines_each) < left
            copy_async_at(ring, target + n * lines_each * line_words * WORD_BYTES, array, source, wanted)
            source += lines_each * stride * WORD_BYTES

    return aim, bring
