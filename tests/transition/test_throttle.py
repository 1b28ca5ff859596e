"""The throttle of copies: what begins in any span of time never exceeds the rate and one chunk, whoever copies and restarts."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from foreshard.errors import ForeshardError, Refused
from foreshard.local.postgres import EmbeddedPostgres
from foreshard.local.processes import wait_until
from foreshard.model import Policy
from foreshard.routing import database as control_plane
from foreshard.routing import pool
from foreshard.settings import NodeSettings, Settings
from foreshard.transition import throttle

POOL = "usage"


@pytest.fixture(scope="module")
def url(postgres: EmbeddedPostgres) -> str:
    url = postgres.create_database("test_throttle")
    control_plane.migrate(url)
    pool.register(url, Settings(pool_id=POOL, nodes=(NodeSettings("a", 1.0),), policy=Policy(min_full_replicas=1)))
    return url


def let_pass(url: str, seconds: float) -> None:
    """As if so much time had passed: what is owed is measured against the server's clock, which cannot be moved."""
    with control_plane.transaction(url) as cursor:
        cursor.execute("UPDATE copy_throttle SET free_at = free_at - make_interval(secs => %s)", [seconds])


def begin_anew(url: str, rate: float | None) -> None:
    throttle.set_rate(url, POOL, None)
    throttle.set_rate(url, POOL, rate)


RATES = st.integers(100, 100_000)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("copy"), st.integers(0, 500_000)),
        st.tuples(st.just("pass"), st.floats(0, 30)),
        st.tuples(st.just("rate"), RATES),
    ),
    max_size=12,
)


@given(RATES, STEPS)
@hypothesis_settings(max_examples=40)
def test_no_span_of_time_sees_more_than_the_rate_and_one_chunk(url: str, rate: int, steps: list[tuple[str, float]]) -> None:
    begin_anew(url, rate)
    # `allowed`: the bytes that the rates allow from the start until now. A reservation is granted somewhere within its call.
    allowed, last = 0.0, time.monotonic()
    granted: list[tuple[float, float, float]] = []  # allowed before the call, allowed after it, bytes
    for what, amount in steps:
        before, fastest, is_granted = allowed, rate, False
        if what == "pass":
            let_pass(url, amount)
            allowed += amount * rate
        elif what == "rate":
            throttle.set_rate(url, POOL, amount)
            fastest, rate = max(rate, int(amount)), int(amount)
        else:
            is_granted = throttle.reserve(url, POOL, int(amount)) == 0
        now = time.monotonic()
        allowed, last = allowed + (now - last) * fastest, now
        if is_granted:
            granted.append((before, allowed, amount))
    for first, end in itertools.combinations(range(len(granted)), 2):
        all_but_the_last = sum(size for _, _, size in granted[first:end])
        rounding = end - first  # times are kept in microseconds
        assert all_but_the_last <= granted[end][1] - granted[first][0] + rounding


def test_a_wait_is_just_as_long_as_the_bytes_before_take_and_nothing_is_taken_by_asking(url: str) -> None:
    begin_anew(url, 10)
    assert throttle.reserve(url, POOL, 10_000) == 0
    for _ in range(3):
        assert 0 < throttle.reserve(url, POOL, 1) <= 1000
    let_pass(url, 900)
    assert 0 < throttle.reserve(url, POOL, 1) <= 100
    let_pass(url, 100)
    assert throttle.reserve(url, POOL, 1) == 0


def test_without_a_rate_nothing_waits_and_a_new_rate_owes_nothing(url: str) -> None:
    begin_anew(url, None)
    assert throttle.read_rate(url, POOL) is None
    assert [throttle.reserve(url, POOL, 1 << 60) for _ in range(2)] == [0, 0]
    throttle.set_rate(url, POOL, 5.5)
    assert throttle.read_rate(url, POOL) == 5.5
    assert throttle.reserve(url, POOL, 1) == 0


def test_another_rate_holds_at_once_for_who_waits(url: str) -> None:
    begin_anew(url, 10)
    assert throttle.reserve(url, POOL, 10_000) == 0
    throttle.set_rate(url, POOL, 100)
    assert 0 < throttle.reserve(url, POOL, 1) <= 100
    throttle.set_rate(url, POOL, 1)
    assert throttle.reserve(url, POOL, 1) > 1000
    asked: list[float] = []

    def go_on() -> bool:
        asked.append(time.monotonic())
        if len(asked) == 2:
            throttle.set_rate(url, POOL, None)
        return True

    assert throttle.wait(url, POOL, 1, go_on)
    assert len(asked) == 2, "it waited, and went on when the limit was lifted"


def test_a_wait_ends_without_taking_anything_when_it_is_told_to(url: str) -> None:
    begin_anew(url, 1)
    assert throttle.reserve(url, POOL, 5) == 0
    answers = iter([True, False])
    assert not throttle.wait(url, POOL, 1 << 40, lambda: next(answers))
    let_pass(url, 5)
    assert throttle.reserve(url, POOL, 1) == 0


def test_what_makes_no_sense_is_refused(url: str) -> None:
    for rate in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ForeshardError, match="above 0 bytes per second"):
            throttle.set_rate(url, POOL, rate)
    with pytest.raises(Refused, match="pool nowhere is not registered"):
        throttle.set_rate(url, "nowhere", 1)
    assert throttle.reserve(url, "nowhere", 1) == 0


# Says before each reservation when it was asked for, and after it when it was there: "asked granted bytes".
COPIER = """
import random, sys, time
from foreshard.transition import throttle
url, seed = sys.argv[1], int(sys.argv[2])
draw = random.Random(seed)
while True:
    size, asked = draw.randint(1, 40_000), time.monotonic()
    while throttle.reserve(url, "usage", size):
        asked = time.monotonic()
    print(asked, time.monotonic(), size, flush=True)
"""


def test_several_processes_together_keep_the_rate_through_kills_and_restarts(url: str, tmp_path: Path) -> None:
    begin_anew(url, 200_000)
    files = [tmp_path / f"{n}" for n in range(4)]

    def copier(file: Path, seed: int) -> subprocess.Popen[bytes]:
        with file.open("wb") as output:
            return subprocess.Popen([sys.executable, "-c", COPIER, url, str(seed)], stdout=output)

    def lines() -> list[list[str]]:
        # A line that a kill cut off is no reservation that anybody made use of.
        return [
            line.split() for file in files if file.exists() for line in file.read_text().splitlines() if line.count(" ") == 2
        ]

    running = [copier(file, seed) for seed, file in enumerate(files[:3])]
    try:
        wait_until(lambda: len(lines()) >= 12, timeout=60, what="a dozen chunks")
        running[0].send_signal(signal.SIGKILL)
        running.append(copier(files[3], 3))
        before = len(lines())
        wait_until(lambda: len(lines()) >= before + 12, timeout=60, what="a dozen chunks more")
    finally:
        for process in running:
            process.kill()
            process.wait()
    granted = sorted((float(asked), float(at), int(size)) for asked, at, size in lines())
    granted.sort(key=lambda one: one[1])
    for first, end in itertools.combinations(range(len(granted)), 2):
        sizes = [size for _, _, size in granted[first : end + 1]]
        earliest = min(asked for asked, _, _ in granted[first : end + 1])
        assert sum(sizes) <= 200_000 * (granted[end][1] - earliest) + max(sizes) + len(sizes)


def test_of_two_that_ask_at_once_one_is_let_through(url: str) -> None:
    begin_anew(url, 1)
    barrier, waits = threading.Barrier(4), []

    def ask() -> None:
        barrier.wait()
        waits.append(throttle.reserve(url, POOL, 100))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waits)[0] == 0 < sorted(waits)[1]
