"""The decorator of the search's compiled functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from numba import njit

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def kernel(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compiles at the first call, without Python's lock, and keeps the result on disk. The same bits on every machine.

    What is kept is not made anew when a function that it calls changes in another file: then remove `__pycache__`.
    """
    return cast(Callable[Arguments, Result], njit(cache=True, nogil=True, error_model="numpy")(function))
