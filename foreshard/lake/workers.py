"""What the Python workers of Spark get in their environment: one thread each, and a place for compiled functions."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from foreshard.settings import Settings

# A task has one core: libraries that start threads of their own would take it from the others.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_CACHE = "NUMBA_CACHE_DIR"


def environment(settings: Settings, is_local: bool = True) -> dict[str, str]:
    """Variables for workers, on this machine or on others.

    Compiled functions are kept, so that no task compiles what another one has: beside their source, below the home folder where
    that cannot be written, and for a package in an archive, as other machines get it, in the executor's own working folder.
    """
    found = dict.fromkeys(_THREADS, "1")
    if not is_local:
        # Relative on purpose: numba alone takes it so, and a user of executors may have no home to write in.
        found["XDG_CACHE_HOME"] = ".cache"
    if _CACHE in os.environ:
        found[_CACHE] = os.environ[_CACHE]
    elif not _is_writable_package():
        found[_CACHE] = str(settings.home.absolute() / "compiled")
    return found


def _is_writable_package() -> bool:
    spec = find_spec("foreshard")
    return spec is not None and spec.origin is not None and os.access(Path(spec.origin).parent, os.W_OK)
