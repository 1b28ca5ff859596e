from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from foreshard.errors import ForeshardError
from foreshard.gateway.query_log import QueryLog
from foreshard.local.processes import wait_until

HOUR = datetime(2013, 11, 28, 5, 59, 59, tzinfo=UTC)

_WRITES_AND_DIES = """
import os, signal, sys, time
from foreshard.gateway.query_log import QueryLog
log = QueryLog(sys.argv[1], "g1")
for number in range(100):
    log.write({"number": number})
while log.written < 100:
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""


class Clock:
    def __init__(self, now: datetime = HOUR) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def landed(folder: Path) -> list[dict[str, object]]:
    """What a reader of the landing sees."""
    files = sorted(p for p in folder.glob("*/*.jsonl") if p.name[0] not in "._")
    return [json.loads(line) for path in files for line in path.read_text("utf-8").splitlines()]


def opened(folder: Path) -> list[Path]:
    return list(folder.glob("*/_*"))


def test_nothing_is_visible_before_a_file_is_whole_and_all_of_it_after_close(tmp_path: Path) -> None:
    log = QueryLog(str(tmp_path), "g1", clock=Clock())
    for number in range(1000):
        log.write({"number": number})
    wait_until(lambda: log.written == 1000, 10, "the records to be written")
    assert landed(tmp_path) == []
    log.close()
    records = landed(tmp_path)
    assert [record["number"] for record in records] == list(range(1000))
    assert len({record["record_id"] for record in records}) == 1000
    assert opened(tmp_path) == []
    assert [p.name for p in tmp_path.iterdir()] == ["2013-11-28T05"]


def test_when_the_hour_turns_the_file_lands_in_the_hour_in_which_it_lands(tmp_path: Path) -> None:
    clock = Clock()
    log = QueryLog(str(tmp_path), "g1", clock=clock)
    log.write({"number": 0})
    wait_until(lambda: log.written == 1, 10, "the record to be written")
    clock.now += timedelta(seconds=1)
    wait_until(lambda: len(landed(tmp_path)) == 1, 10, "the file to land")
    assert [p.parent.name for p in tmp_path.glob("*/*.jsonl")] == ["2013-11-28T06"]
    log.close()


def test_a_file_lands_at_its_size_and_at_its_age(tmp_path: Path) -> None:
    by_size = QueryLog(str(tmp_path / "size"), "g1", max_bytes=1)
    by_size.write({"number": 0})
    wait_until(lambda: len(landed(tmp_path / "size")) == 1, 10, "the file to land at its size")
    by_age = QueryLog(str(tmp_path / "age"), "g1", max_age_seconds=0.1)
    by_age.write({"number": 0})
    wait_until(lambda: len(landed(tmp_path / "age")) == 1, 10, "the file to land at its age")
    by_size.close()
    by_age.close()


def test_a_killed_gateway_loses_no_written_record_and_its_cut_off_line_is_dropped(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", _WRITES_AND_DIES, str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    (left,) = opened(tmp_path)
    with left.open("ab") as file:
        file.write(b'{"number": 100, "cut o')
    other = QueryLog(str(tmp_path), "g1-b")
    assert other.recovered == 0, "a gateway of another name leaves it alone"
    log = QueryLog(str(tmp_path), "g1")
    assert log.recovered == 1
    assert [record["number"] for record in landed(tmp_path)] == list(range(100))
    assert opened(tmp_path) == []
    log.close()
    other.close()


def test_a_file_in_use_is_not_taken_from_its_gateway(tmp_path: Path) -> None:
    log = QueryLog(str(tmp_path), "g1")
    log.write({"number": 0})
    wait_until(lambda: log.written == 1, 10, "the record to be written")
    again = QueryLog(str(tmp_path), "g1")
    assert again.recovered == 0
    log.write({"number": 1})
    log.close()
    again.close()
    assert [record["number"] for record in landed(tmp_path)] == [0, 1]


def test_a_file_with_no_whole_line_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "2013-11-28T05").mkdir()
    (tmp_path / "2013-11-28T05" / "_g1.x.jsonl").write_bytes(b'{"cut')
    log = QueryLog(str(tmp_path), "g1")
    log.close()
    assert list(tmp_path.glob("*/*")) == []


@pytest.mark.parametrize("name", ["", "a/b", "..", "a.b", "x" * 65])
def test_a_gateway_id_that_cannot_name_a_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ForeshardError, match="gateway id"):
        QueryLog(str(tmp_path), name)


@pytest.mark.parametrize("folder", ["s3://bucket/landing", "FILE"])
def test_a_folder_that_cannot_be_written_is_refused_in_one_sentence(tmp_path: Path, folder: str) -> None:
    (tmp_path / "FILE").write_bytes(b"")
    with pytest.raises(ForeshardError):
        QueryLog(folder if "://" in folder else os.fspath(tmp_path / folder), "g1")
