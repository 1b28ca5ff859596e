"""The driver as a process of its own: killed, started twice, and without Postgres."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_haproxy import Proxy, Published
from small_pipelines import SmallPipeline

from foreshard.local.postgres import EmbeddedPostgres
from foreshard.local.processes import ChildProcess, start, wait_until
from foreshard.model import Replica
from foreshard.routing import database as control_plane
from foreshard.routing import store

pytestmark = pytest.mark.live

SLOT_BITS = 2


class DriverProcess:
    """`foreshard haproxy follow` with a settings file of its own."""

    def __init__(self, folder: Path, url: str, place: Path) -> None:
        self._settings = folder / "foreshard.toml"
        self._settings.write_text(f'postgres_url = "{url}"\nslot_bits = {SLOT_BITS}\n', "utf-8")
        self._folder, self._place = folder, place
        self._children: list[ChildProcess] = []
        self.child = self.start()

    def start(self, log: str = "driver.log") -> ChildProcess:
        words = ["haproxy", "follow", "--folder", self._place, "--settings", self._settings]
        self.child = start([sys.executable, "-m", "foreshard.cli", *words], self._folder / log)
        self._children.append(self.child)
        return self.child

    def stop(self) -> None:
        for child in self._children:
            child.stop()

    def said(self, log: str = "driver.log") -> str:
        return (self._folder / log).read_text("utf-8")


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    proxy = Proxy(tmp_path / "haproxy", SLOT_BITS)
    yield proxy
    proxy.stop()


@pytest.fixture
def nodes() -> Iterator[dict[str, str]]:
    pipelines = [SmallPipeline(node) for node in "abc"]
    yield {pipeline.node_id: pipeline.url for pipeline in pipelines}
    for pipeline in pipelines:
        pipeline.stop()


def test_a_driver_killed_at_any_epoch_goes_on_from_what_haproxy_holds(
    tmp_path: Path, database: str, proxy: Proxy, nodes: dict[str, str]
) -> None:
    published = Published(database, SLOT_BITS, nodes)
    pairs = ("ab", "bc", "ca")
    published.publish(published.everywhere("a", "b"), (("hot", 4),))
    driver = DriverProcess(tmp_path, database, proxy.folder)
    try:
        for number in range(1, 5):
            pair = pairs[number % 3]
            own = [Replica(4 + number, pair[0])]
            epoch = published.publish([*published.everywhere(*pair), *own], (("hot", 4 + number),))
            driver.child.process.send_signal(signal.SIGKILL)  # wherever it is in its work
            driver.child.process.wait()
            assert {proxy.ask(f"e{n}").status_code for n in range(8)} <= {200, 503}
            driver.start()
            wait_until(lambda epoch=epoch: proxy.api.held().epoch == epoch, 90, "the epoch", child=driver.child)
            assert proxy.weights("s1") == dict.fromkeys(pair, 256)
            assert {proxy.ask(f"e{n}").headers["X-Foreshard-Node"] for n in range(8)} == set(pair)
            wait_until(lambda epoch=epoch: store.unacknowledged(database, "usage", epoch) == [], 90, "the acknowledgement")
        second = driver.start("second.log")
        assert second.process.wait(timeout=120) == 1
        assert "another process drives the HAProxy" in driver.said("second.log")
    finally:
        driver.stop()


def test_without_postgres_haproxy_goes_on_and_a_driver_starts_from_its_last_known_good(
    tmp_path: Path, proxy: Proxy, nodes: dict[str, str]
) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres")
    try:
        url = server.start()
        control_plane.migrate(url)
        published = Published(url, SLOT_BITS, nodes)
        published.publish(published.everywhere("a", "b"))
        driver = DriverProcess(tmp_path, url, proxy.folder)
        wait_until(lambda: proxy.api.held().epoch == 1, 90, "the epoch", child=driver.child)
        wait_until((proxy.folder / "last_known_good").exists, 90, "the last-known-good file", child=driver.child)
    finally:
        server.stop()
    try:
        wait_until(lambda: "keeps epoch 1" in driver.said(), 90, "the driver to miss Postgres", child=driver.child)
        assert proxy.ask("AA1").status_code == 200
        assert driver.child.stop() == 0
        proxy.api.run(["set server s1/a:1 weight 3"])
        driver.start("second.log")
        wait_until(lambda: proxy.weights("s1") == {"a": 256, "b": 256}, 90, "the weights of the file", child=driver.child)
    finally:
        driver.stop()
