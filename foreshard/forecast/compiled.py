"""The decorator of functions that are compiled to machine code: typed as what they decorate."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from numba import njit

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def compiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compiles at the first call and keeps the result on disk. A division by zero gives infinity or NaN, as in NumPy.

    What is kept is made anew when the function's own file changes, not when one it calls in another file does: after such
    an edit, remove the `__pycache__` folder.
    """
    return cast(Callable[Arguments, Result], njit(cache=True, error_model="numpy")(function))


def reordered(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """As `compiled`, with sums in whatever order is fastest: the last digits then depend on the processor."""
    options = {"reassoc", "contract", "nsz"}
    return cast(Callable[Arguments, Result], njit(cache=True, error_model="numpy", fastmath=options)(function))
