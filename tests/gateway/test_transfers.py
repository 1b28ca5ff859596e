"""What a pipeline says to a move, case by case."""

from __future__ import annotations

from pathlib import Path

import pytest

from foreshard.gateway.transfers import answer_to, free_bytes
from foreshard.transition.negotiation import Transfer
from foreshard.transition.picture import Answer


def transfer(role: str, size: int = 10) -> Transfer:
    return Transfer("p", 0, role, "a", 3, None, size, "b")


@pytest.mark.parametrize(
    ("role", "held", "stopping", "free", "answer"),
    [
        ("source", {3: 17}, False, 0, Answer(True)),
        ("source", {3: 17}, True, None, Answer(True)),
        ("source", {4: 17}, False, 100, Answer(False, "does not hold shard 3")),
        ("target", {}, False, 20, Answer(True)),
        ("target", {}, False, None, Answer(True)),
        ("target", {}, False, 19, Answer(False, "has 0.0 GB free, and shard 3 needs 0.0 GB")),
        ("target", {3: 17}, True, 100, Answer(False, "is stopping")),
    ],
)
def test_a_source_must_hold_the_shard_and_a_target_stay_and_have_room(
    role: str, held: dict[int, int], stopping: bool, free: int | None, answer: Answer
) -> None:
    assert answer_to(transfer(role), held, stopping, free) == answer


def test_room_is_that_of_the_disk_that_the_table_will_be_on(tmp_path: Path) -> None:
    here, below = free_bytes(str(tmp_path)), free_bytes(str(tmp_path / "not" / "made" / "yet"))
    assert here is not None
    assert below is not None
    assert below > 0
    assert free_bytes("s3a://bucket/lake/usage/serving/a") is None
