"""The decorator of the search's compiled functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from numba import njit

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


# Arrays in a tuple are counted, atomically, whenever they are taken out of it: nine tenths of a candidate's time. These
# functions only borrow arrays that the caller keeps and make none of their own, so that the counting (`_nrt`) is left out.
_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}
_INTERNAL = {**_OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def entry(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A kernel that Python may call. Taking the tuples of arrays apart for it costs seconds of compiling: few are entries."""
    return cast(Callable[Arguments, Result], njit(**_OPTIONS)(function))


def kernel(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compiled at the first call, without Python's lock, and kept on disk; for other kernels to call. The same bits everywhere.

    Must not make or return arrays. What is kept is not made anew when a function that it calls changes in another file: then
    remove `__pycache__`.
    """
    return cast(Callable[Arguments, Result], njit(**_INTERNAL)(function))


def inlined(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """As `kernel`, and built into each caller: handing on whole tuples of arrays would cost more than the work."""
    return cast(Callable[Arguments, Result], njit(**_INTERNAL, forceinline=True)(function))
