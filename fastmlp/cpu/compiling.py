"""How kernels are compiled and where their machine code is kept between processes.

`kernel` compiles a function that other kernels call; `pointer` a pass, which is called by its address; `entry` a
function that Python calls with integers. Passes and entries are kept on disk, under a folder named after a hash of
the kernels' sources (cpu/, formulas.py, codes.py), of the compiler's version and of the processor: Numba itself does
not notice that a callee in another file has changed. A folder that cannot be written costs a compilation, never an
error.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import sys
import tempfile
import warnings
from pathlib import Path

import llvmlite.binding
import numba
import numpy as np
from numba.core import caching
from numba.core.ccallback import CFunc
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_lock import global_compiler_lock

from fastmlp.cpu import amx

# No fast-math flag anywhere: the sums' order is ours, so the bits do not depend on what the compiler thinks of.
OPTIONS = {"error_model": "numpy", "nogil": True}


class _KernelCode(JITCodeLibrary):
    """The LLVM code of a kernel, which is optimized and made machine code only where it ends up: in a pass.

    Numba does both for every function by itself as well, which would take as long again.
    """

    codegen = property(lambda self: self)

    def finalize(self):
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True

    def get_pointer_to_function(self, name):
        self._ensure_finalized()
        return 0

    def set_env(self, name, environment):
        """Kernels raise nothing, so they need no environment."""


class _PassCode(JITCodeLibrary):
    """The code of a pass and its kernels, optimized once: Numba's round before that is for reference counts."""

    def _optimize_final_module(self):
        manager, builder = self._codegen._module_pass_manager()
        manager.run(self._final_module, builder)


class _KernelCompiler(Compiler):
    def __init__(self, typingctx, targetctx, library, *rest):
        super().__init__(typingctx, targetctx, library or _KernelCode(targetctx.codegen(), "fastmlp"), *rest)


class _PassCompiler(Compiler):
    def __init__(self, typingctx, targetctx, library, *rest):
        library = library or _PassCode(targetctx.codegen(), "fastmlp")
        library.enable_object_caching()
        super().__init__(typingctx, targetctx, library, *rest)


# Kernels and passes allocate nothing and are called from compiled code only: no reference counts, no wrappers; and no
# array expressions that Numba could rewrite.
PASS = {**OPTIONS, "_nrt": False, "no_rewrites": True}
INNER = {**PASS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "pipeline_class": _KernelCompiler}


_lock = global_compiler_lock  # Numba's own, which may be taken again by its owner
if hasattr(os, "register_at_fork"):  # a child must not wait for a compilation that it has no thread for
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def once(function):
    """Make each result once, whichever threads ask for it, and keep it: others hold addresses of what is compiled."""
    results = {}

    @functools.wraps(function)
    def find(*key):
        if key not in results:
            with _lock:
                if key not in results:
                    results[key] = function(*key)
        return results[key]

    return find


def host_features() -> set[str]:
    """The names of the instruction sets that Numba compiles for on this machine, and that may be used."""
    if numba.config.CPU_FEATURES is not None:
        flags = numba.config.CPU_FEATURES.split(",")
    else:
        flags = llvmlite.binding.get_host_cpu_features().flatten().split(",")
    features = {flag[1:] for flag in flags if flag.startswith("+")}
    if not numba.config.ENABLE_AVX:
        features = {name for name in features if not name.startswith("avx")}
    if "amx-tile" in features and not amx.is_granted():
        features = {name for name in features if not name.startswith("amx")}
    return features


@functools.cache
def cache_key() -> str:
    """A hash of all that machine code depends on: the kernels' sources, Numba, LLVM, NumPy, Python, the processor."""
    versions = (numba.__version__, llvmlite.binding.llvm_version_info, np.__version__, sys.version, numba.config.OPT)
    processor = numba.config.CPU_NAME or llvmlite.binding.get_host_cpu_name(), sorted(host_features())
    digest = hashlib.sha256(repr((versions, processor)).encode())
    package = Path(__file__).parents[1]
    for path in (package / "codes.py", package / "formulas.py", *sorted((package / "cpu").glob("*.py"))):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _is_ours_to_write(folder: Path) -> bool:
    """Whether a folder is there or can be made, and is this user's: what another has put there must not be run."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
            return False
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


@once
def cache_folder() -> Path | None:
    """The first writable one of FASTMLP_CACHE_DIR, NUMBA_CACHE_DIR, the user's cache and the temporary folder.

    One that is wanted and cannot be written is warned of, once.
    """
    if sys.platform == "win32":
        user = os.environ.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        user = os.path.expanduser("~/Library/Caches")
    else:
        user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    roots = (os.environ.get("FASTMLP_CACHE_DIR"), numba.config.CACHE_DIR, user)
    wanted = [Path(root, "fastmlp", cache_key()) for root in roots if root]
    folder = next(filter(_is_ours_to_write, wanted), None)
    if folder is not None and folder == wanted[0]:
        return folder
    if folder is None:
        with contextlib.suppress(FileNotFoundError):  # there may be no temporary folder either
            owner = str(os.getuid()) if hasattr(os, "getuid") else ""
            temporary = Path(tempfile.gettempdir(), f"fastmlp{owner}", cache_key())
            ours = _is_ours_to_write(temporary.parent) and not temporary.parent.stat().st_mode & 0o022
            folder = temporary if ours and _is_ours_to_write(temporary) else None
    unwritable = wanted[0].parent if wanted else "the user's cache"
    outcome = "in every process" if folder is None else f"once more, and kept in {folder.parent}"
    warnings.warn(
        f"{unwritable} cannot be written: kernels are compiled {outcome}; FASTMLP_CACHE_DIR names another folder",
        RuntimeWarning,
        stacklevel=2,
    )
    return folder


class _Locator(caching._CacheLocator):
    """Names the folder above; its key is the freshness stamp of every file in it."""

    def __init__(self, py_func):
        self._name = f"{py_func.__module__}-{py_func.__code__.co_firstlineno}"

    def get_cache_path(self):
        return str(cache_folder())

    def get_source_stamp(self):
        return cache_key()

    def get_disambiguator(self):
        return self._name

    @classmethod
    def from_function(cls, py_func, py_file):
        return cls(py_func)


class _LibraryImpl(caching.CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class _FunctionCache(caching.FunctionCache):
    """Numba's cache, with files of its own for each signature and closure.

    Processes that start at once with an empty folder would otherwise number their files alike in an index that they
    share, and one could load what another has compiled for other types.
    """

    _impl_class = _LibraryImpl

    def __init__(self, function, signature):
        super().__init__(function)
        kept = [cell.cell_contents for cell in function.__closure__ or ()]
        which = hashlib.sha256(repr((signature, kept)).encode()).hexdigest()[:16]
        name = f"{self._impl.filename_base}-{which}"
        self._cache_file = caching.IndexDataCacheFile(self._cache_path, name, self._impl.locator.get_source_stamp())

    def load_overload(self, sig, target_context):
        """The function that was compiled before; None too when its file is damaged, which costs a compilation."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError as error:  # of a disk that is full, for one
            _tell(f"compiled kernels could not be kept in {self._cache_path} ({error.strerror or error})")


@functools.cache
def _tell(message):
    warnings.warn(message, RuntimeWarning, stacklevel=4)


def kernel(function):
    """Compile a function that is called from compiled code."""
    return numba.njit(**INNER)(function)


def entry(parallel=False):
    """Compile a function that Python calls; its machine code is kept on disk."""

    def decorate(function):
        dispatcher = numba.njit(parallel=parallel, **OPTIONS)(function)
        if cache_folder() is not None:
            dispatcher._cache = _FunctionCache(function, "of integers")
        return dispatcher

    return decorate


def pointer(signature, function, kept=True):
    """Compile a function whose address is handed to compiled code; kept on disk as well, unless users supply it."""
    compiled = CFunc(function, (signature.args, signature.return_type), {}, PASS, _PassCompiler)
    if kept and cache_folder() is not None:
        compiled._cache = _FunctionCache(function, signature)
    compiled.compile()
    return compiled


@functools.cache
def callable_at(address, arguments):
    """A Python callable for the compiled function at an address that takes so many integers."""
    return ctypes.CFUNCTYPE(None, *[ctypes.c_ssize_t] * arguments)(address)
