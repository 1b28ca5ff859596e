"""The problem that a plan was made from, as it is kept beside the plan: canonical JSON, compressed."""

from __future__ import annotations

import json

import zstandard

from foreshard.errors import ForeshardError
from foreshard.model import PlacementProblem
from foreshard.placement import codec


def packed(problem: PlacementProblem) -> bytes:
    """Names sorted, no white space, floats with all their digits; zstd. The same problem gives the same bytes."""
    text = json.dumps(codec.problem_to_document(problem), separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    compressed: bytes = zstandard.ZstdCompressor(level=3).compress(text.encode("utf-8"))
    return compressed


def unpacked(kept: bytes, plan_id: str) -> PlacementProblem:
    """The problem; raises ForeshardError if what is kept cannot be read."""
    try:
        document = json.loads(zstandard.ZstdDecompressor().decompress(kept))
    except (zstandard.ZstdError, ValueError) as error:
        raise ForeshardError(
            f"the problem kept with plan {plan_id} cannot be read ({error}); give it with --problem and --plan"
        ) from None
    return codec.problem_from_document(document)
