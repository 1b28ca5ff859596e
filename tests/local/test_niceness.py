"""What is to give way really does, in the session that it leads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from foreshard.local.niceness import lowered

AUTOGROUP = Path("/proc/self/autogroup")
_SHOW = """
import os, pathlib
print(os.nice(0))
session = pathlib.Path("/proc/self/autogroup")
print(session.read_text() if session.exists() else "")
"""


def told(nice: int, is_own_session: bool) -> tuple[int, str]:
    """Niceness of a command run so, and what the kernel says of its session."""
    command = lowered([sys.executable, "-c", _SHOW], nice)
    done = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=is_own_session)
    first, _, rest = done.stdout.partition("\n")
    return int(first), rest.strip()


def test_a_command_runs_at_the_niceness_and_never_at_a_higher_priority_than_who_starts_it() -> None:
    assert told(11, is_own_session=True)[0] == 11
    assert told(1, is_own_session=True)[0] == max(1, os.nice(0))


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel has no autogroups")
def test_a_session_of_its_own_is_lowered_and_that_of_others_is_left_alone() -> None:
    before = AUTOGROUP.read_text("ascii")

    assert told(11, is_own_session=True)[1].endswith(" nice 11")
    assert told(11, is_own_session=False)[1] == before.strip()
    assert AUTOGROUP.read_text("ascii") == before
