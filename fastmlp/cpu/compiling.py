"""How kernels are compiled and where their machine code is kept between processes.

`kernel` compiles a function that other kernels call; `pointer` a pass, which is called by its address; `entry` a
function that Python calls. Passes and entries are kept on disk, under a folder named after a hash of all of fastmlp's
sources: Numba itself does not notice that a callee in another file has changed. A folder that cannot be written costs
a compilation, never an error.
"""

import ctypes
import functools
import hashlib
import os
import sys
import tempfile
from pathlib import Path

import numba
from numba.core import caching
from numba.core.ccallback import CFunc
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

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


@functools.cache
def sources_hash() -> str:
    """A hash of every Python source of the package."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def cache_folder() -> Path | None:
    """The first writable one of FASTMLP_CACHE_DIR, NUMBA_CACHE_DIR, the user's cache and the temporary folder."""
    if sys.platform == "win32":
        user = os.environ.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        user = os.path.expanduser("~/Library/Caches")
    else:
        user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    for root in (os.environ.get("FASTMLP_CACHE_DIR"), numba.config.CACHE_DIR, user, tempfile.gettempdir()):
        if not root:
            continue
        owner = str(os.getuid()) if root == tempfile.gettempdir() and hasattr(os, "getuid") else ""
        folder = Path(root, "fastmlp" + owner, sources_hash())
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
                continue  # what another user put there must not be run
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        return folder
    return None


class _Locator(caching._CacheLocator):
    """Names the folder above; its hash is the freshness stamp of every file in it."""

    def __init__(self, py_func):
        self._name = f"{py_func.__module__}-{py_func.__code__.co_firstlineno}"

    def get_cache_path(self):
        return str(cache_folder())

    def get_source_stamp(self):
        return sources_hash()

    def get_disambiguator(self):
        return self._name

    @classmethod
    def from_function(cls, py_func, py_file):
        return cls(py_func)


class _LibraryImpl(caching.CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class _FunctionCache(caching.FunctionCache):
    _impl_class = _LibraryImpl


def kernel(function):
    """Compile a function that is called from compiled code."""
    return numba.njit(**INNER)(function)


def entry(parallel=False):
    """Compile a function that Python calls; its machine code is kept on disk."""

    def decorate(function):
        dispatcher = numba.njit(parallel=parallel, **OPTIONS)(function)
        if cache_folder() is not None:
            dispatcher._cache = _FunctionCache(function)
        return dispatcher

    return decorate


def pointer(signature, function):
    """Compile a function whose address is handed to compiled code; kept on disk as well."""
    compiled = CFunc(function, (signature.args, signature.return_type), {}, PASS, _PassCompiler)
    if cache_folder() is not None:
        compiled._cache = _FunctionCache(function)
    compiled.compile()
    return compiled


@functools.cache
def callable_at(address, arguments):
    """A Python callable for the compiled function at an address that takes so many integers."""
    return ctypes.CFUNCTYPE(None, *[ctypes.c_ssize_t] * arguments)(address)
