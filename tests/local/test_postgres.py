"""The embedded server: started once by many, recovered after SIGKILL, and clear about what stops it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from foreshard.errors import ForeshardError
from foreshard.local.postgres import URL_VARIABLE, EmbeddedPostgres, resolve_url
from foreshard.local.processes import wait_until
from foreshard.routing import database
from foreshard.settings import Settings

pytestmark = pytest.mark.live


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server that is not yet started, below a folder whose name needs quoting."""
    server = EmbeddedPostgres(tmp_path / "with space and ü" / "postgres")
    yield server
    server.stop()


def _start(folder: Path, answers: multiprocessing.Queue[tuple[str, int | None]]) -> None:
    server = EmbeddedPostgres(folder)
    answers.put((server.start(), server.pid()))


def test_two_processes_that_start_at_once_get_the_same_server(server: EmbeddedPostgres) -> None:
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[tuple[str, int | None]] = context.Queue()
    processes = [context.Process(target=_start, args=(server.folder, answers)) for _ in range(2)]
    for process in processes:
        process.start()
    given = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert given[0] == given[1] == (server.url(), server.pid())
    assert database.migrate(given[0][0])[0] == "0001_control_plane.sql"


def test_after_sigkill_start_recovers_what_was_committed(server: EmbeddedPostgres) -> None:
    url = server.start()
    with database.transaction(url) as cursor:
        cursor.execute("CREATE TABLE kept (n integer); INSERT INTO kept VALUES (1)")
    idle = database.connect(url)  # its worker outlives the postmaster for a moment
    pid = server.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: server.pid() is None, 10, "the killed server to be gone")
    assert server.url() is None
    assert server.start() == url, "the port is kept"
    assert server.pid() != pid
    with database.transaction(url) as cursor:
        cursor.execute("SELECT n FROM kept")
        assert cursor.fetchall() == [{"n": 1}]
    idle.close()


def test_a_stale_pid_that_is_now_another_process_is_neither_trusted_nor_signalled(server: EmbeddedPostgres) -> None:
    server.start()
    pid_file = server.data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    server.stop()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    assert server.url() is None
    server.stop()  # would end this test if it signalled
    assert server.start() == server.url()


def test_a_port_taken_meanwhile_is_replaced(server: EmbeddedPostgres) -> None:
    url = server.start()
    server.stop()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections linger on the port
        taken.bind(("127.0.0.1", int(url.split(":")[-1].split("/")[0])))
        taken.listen()
        other = server.start()
        assert other != url
        assert server.start() == other


def test_stopping_leaves_no_process_and_repeats(server: EmbeddedPostgres) -> None:
    server.stop()
    server.start()
    pid = server.pid()
    assert pid is not None
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    server.stop()
    server.stop()
    assert [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []
    assert server.url() is None


def test_an_interrupted_initialisation_is_done_again(server: EmbeddedPostgres) -> None:
    (server.folder / "data.new" / "base").mkdir(parents=True)
    (server.folder / "data.new" / "PG_VERSION").write_text("18\n")
    database.connect(server.start()).close()


def test_a_database_is_created_once(server: EmbeddedPostgres) -> None:
    with pytest.raises(ForeshardError, match="Postgres is not running"):
        server.create_database("airflow")
    server.start()
    odd = 'name "quoted"; DROP'
    assert server.create_database("airflow") == server.create_database("airflow")
    server.create_database(odd)
    database.connect(server.create_database("airflow")).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server under another account")
def test_a_closed_home_folder_is_made_passable_but_not_listable(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    server = EmbeddedPostgres(home / "var" / "postgres")
    try:
        database.connect(server.start()).close()
    finally:
        server.stop()
    assert home.stat().st_mode & 0o777 == 0o701


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ForeshardError, match=r"cannot write to .*file/postgres: Not a directory"):
        EmbeddedPostgres(tmp_path / "file" / "postgres").start()


def test_a_full_disk_is_named_before_anything_is_written(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foreshard.local.postgres.NEW_MEGABYTES", 1 << 40)
    with pytest.raises(ForeshardError, match=r"only \d+ MB are free under .*, and Postgres needs"):
        server.start()
    assert not server.data.exists()


def test_the_url_comes_from_settings_then_environment_then_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: EmbeddedPostgres
) -> None:
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    with pytest.raises(ForeshardError, match=r"Postgres is not running .* `foreshard up` or set postgres_url"):
        resolve_url(Settings(home=tmp_path))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "postgres").symlink_to(postgres.folder)
    running = Settings(home=tmp_path / "home")
    assert resolve_url(running) == postgres.url()
    monkeypatch.setenv(URL_VARIABLE, "postgresql://from-environment/x")
    assert resolve_url(running) == "postgresql://from-environment/x"
    assert resolve_url(Settings(home=tmp_path, postgres_url="postgresql://from-settings/x")) == "postgresql://from-settings/x"
