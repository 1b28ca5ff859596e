"""Arrow columns of arrays ↔ matrices, without a loop over rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def matrix(column: Any, width: int) -> npt.NDArray[np.float64]:
    """A column of arrays of `width` numbers each, none of them null, as float64 (rows, width)."""
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float64).reshape(len(column), width)


def arrays(values: npt.NDArray[Any]) -> pa.ListArray:
    """A matrix as a column of arrays; with three axes, a column of arrays of arrays."""
    inner = pa.array(np.ascontiguousarray(values).reshape(-1))
    for axis in range(values.ndim - 1, 0, -1):
        count = int(np.prod(values.shape[:axis]))
        offsets = np.arange(count + 1, dtype=np.int32) * np.int32(values.shape[axis])
        inner = pa.ListArray.from_arrays(pa.array(offsets), inner)
    return inner
