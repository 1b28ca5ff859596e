"""Provisioners on the real thing: child processes, a command of one's own, an HTTP server; each repeated and cut short."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from foreshard.errors import ForeshardError, Refused
from foreshard.local.processes import start, wait_until
from foreshard.nodes import webhook
from foreshard.nodes.command import CommandProvisioner
from foreshard.nodes.launch import ALREADY_RUNS, RECORD
from foreshard.nodes.local_processes import LocalProcesses
from foreshard.nodes.provisioner import NoProvisioner, provisioner_of
from foreshard.nodes.webhook import WebhookProvisioner
from foreshard.settings import load

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


# Local processes


@dataclass
class Sleepers:
    """A local provisioner whose nodes sleep: what starts and stops them is the same."""

    provisioner: LocalProcesses
    root: Path

    def pid(self, node_id: str) -> int:
        return int(json.loads((self.root / node_id / RECORD).read_text("utf-8"))["pid"])


@pytest.fixture
def sleepers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sleepers]:
    (tmp_path / "foreshard.toml").write_text('[provisioner]\nkind = "local"\n', "utf-8")
    monkeypatch.setattr(LocalProcesses, "_command", lambda self, node_id: SLEEPER)
    settings = load(tmp_path / "foreshard.toml")
    made = provisioner_of(settings)
    assert isinstance(made, LocalProcesses)
    yield Sleepers(made, settings.home / "nodes")
    for node_id in made.observe():
        made.remove_node(node_id, "")


def test_a_local_node_is_started_once_found_again_and_stopped(sleepers: Sleepers) -> None:
    nodes = sleepers.provisioner
    assert nodes.observe() == {}
    first = nodes.add_node("a", 10, "", "1")
    pid = sleepers.pid("a")
    assert f"process {pid}" in first.detail
    assert nodes.observe() == {"a": "running"}
    assert nodes.add_node("a", 10, "", "2").detail == first.detail, "repeating starts nothing"
    assert os.getsid(pid) == pid, "it outlives who started it"
    assert nodes.remove_node("a", "3").detail == f"process {pid} was stopped"
    assert nodes.observe() == {"a": "stopped"}
    assert nodes.remove_node("a", "3").detail == "it did not run"


def test_a_killed_local_node_is_seen_as_stopped_and_can_be_started_again(sleepers: Sleepers) -> None:
    nodes = sleepers.provisioner
    nodes.add_node("a", 10, "", "1")
    pid = sleepers.pid("a")
    psutil.Process(pid).kill()
    wait_until(lambda: nodes.observe()["a"] == "stopped", 10, "the killed node to be gone")
    nodes.add_node("a", 10, "", "2")
    assert sleepers.pid("a") != pid
    assert nodes.observe() == {"a": "running"}


def test_a_stale_record_of_another_process_stops_nobody(sleepers: Sleepers, tmp_path: Path) -> None:
    nodes = sleepers.provisioner
    nodes.add_node("a", 10, "", "1")
    psutil.Process(sleepers.pid("a")).kill()
    wait_until(lambda: nodes.observe()["a"] == "stopped", 10, "the killed node to be gone")
    bystander = start(SLEEPER, tmp_path / "log")
    try:
        record = sleepers.root / "a" / RECORD
        # Its id has been given to another process, even one that began at the same time.
        for started in (0.0, psutil.Process(bystander.pid).create_time()):
            record.write_text(json.dumps({"pid": bystander.pid, "started": started}), "utf-8")
            assert nodes.observe() == {"a": "stopped"}
            assert nodes.remove_node("a", "2").detail == "it did not run"
            assert bystander.is_running()
    finally:
        bystander.stop()


def test_whoever_starts_a_node_that_runs_already_starts_nothing(sleepers: Sleepers, tmp_path: Path) -> None:
    sleepers.provisioner.add_node("a", 10, "", "1")
    pid = sleepers.pid("a")
    second = start([sys.executable, "-m", "foreshard.nodes.launch", sleepers.root / "a", *SLEEPER], tmp_path / "log")
    assert second.process.wait(60) == ALREADY_RUNS
    assert sleepers.pid("a") == pid


KILLED_WHILE_STARTING = """
import os, signal, sys
from foreshard.local import processes
from foreshard.nodes.local_processes import LocalProcesses
from foreshard.settings import load
LocalProcesses._command = lambda self, node_id: [sys.executable, "-c", "import time; time.sleep(600)"]
processes.wait_until = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # right after the child was started
LocalProcesses(load(sys.argv[1])).add_node("a", 10, "", "1")
"""


def test_a_node_whose_starter_was_killed_is_found_again_and_not_started_twice(sleepers: Sleepers, tmp_path: Path) -> None:
    starter = start([sys.executable, "-c", KILLED_WHILE_STARTING, tmp_path / "foreshard.toml"], tmp_path / "log")
    assert starter.process.wait(60) == -9
    wait_until(lambda: sleepers.provisioner.observe().get("a") == "running", 30, "the node to record itself")
    pid = sleepers.pid("a")
    assert f"process {pid}" in sleepers.provisioner.add_node("a", 10, "", "1").detail
    assert sleepers.provisioner.remove_node("a", "2").detail == f"process {pid} was stopped"
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_many_at_once_start_one_process(sleepers: Sleepers) -> None:
    said: list[str] = []
    threads = [
        threading.Thread(target=lambda: said.append(sleepers.provisioner.add_node("a", 10, "", "1").detail)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(said) == 4
    assert len(set(said)) == 1, said
    sleepers.provisioner.remove_node("a", "2")
    assert sleepers.provisioner.observe() == {"a": "stopped"}
    launchers = [c for c in psutil.Process().children() if "foreshard.nodes.launch" in " ".join(c.cmdline())]
    assert launchers == [], "nobody is left who would start it after all"


def test_a_local_node_that_does_not_start_says_why(sleepers: Sleepers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalProcesses, "_command", lambda self, node_id: ["no-such-command"])
    with pytest.raises(ForeshardError, match=r"node a did not start; the log .*there is no program no-such-command"):
        sleepers.provisioner.add_node("a", 10, "", "1")
    assert sleepers.provisioner.observe() == {}


# A command

SCRIPT = """\
import json, os, pathlib, sys
verb, node, capacity, zone = sys.argv[1:5]
state = pathlib.Path(__file__).with_name("state.json")
nodes = json.loads(state.read_text()) if state.exists() else {}
if node == "broken":
    sys.exit("no machine is free")
if node == "mute":
    sys.exit()
if node == "slow":
    import time; print("{}", flush=True); time.sleep(600)
if verb == "add":
    nodes[node] = "running"
if verb == "remove":
    nodes.pop(node, None)
state.write_text(json.dumps(nodes))
print("some words first")
print(json.dumps({"nodes": nodes} if verb == "observe" else
    {"detail": f"{verb} {node} {capacity} in {zone}, {os.environ['FORESHARD_OPERATION_ID']}"}))
"""


@pytest.fixture
def command(tmp_path: Path) -> Callable[[float], CommandProvisioner]:
    script = tmp_path / "provide.py"
    script.write_text(SCRIPT, "utf-8")
    words = (sys.executable, str(script), "{verb}", "{node_id}", "{capacity}", "{zone}")
    return lambda timeout: CommandProvisioner(words, timeout)


def test_a_command_is_told_verb_node_capacity_zone_and_operation(command: Callable[[float], CommandProvisioner]) -> None:
    nodes = command(60)
    assert nodes.observe() == {}
    assert nodes.add_node("a", 12.5, "z; rm -rf /", "op1").detail == "add a 12.5 in z; rm -rf /, op1"
    assert nodes.observe() == {"a": "running"}
    assert nodes.drain_node("a", "op2").detail == "drain a  in , op2"
    assert nodes.remove_node("a", "op3").detail == "remove a  in , op3"
    assert nodes.observe() == {}


def test_a_command_that_fails_is_silent_or_hangs_is_explained(command: Callable[[float], CommandProvisioner]) -> None:
    with pytest.raises(ForeshardError, match=r"add broken failed with status 1: no machine is free"):
        command(60).add_node("broken", 1, "", "op")
    with pytest.raises(ForeshardError, match=r"add mute must end its output with one line of JSON, not 'nothing'"):
        command(60).add_node("mute", 1, "", "op")
    with pytest.raises(ForeshardError, match=r"add slow was ended after 1 s"):
        command(1).add_node("slow", 1, "", "op")
    with pytest.raises(ForeshardError, match=r"no-such-command add a cannot be run: No such file"):
        CommandProvisioner(("no-such-command",), 1).add_node("a", 1, "", "op")


# A webhook


@dataclass
class Service:
    """Keeps nodes, does each operation once, and fails as often as told."""

    url: str = ""
    failures: list[int] = field(default_factory=list)  # statuses of the next answers
    nodes: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[dict[str, Any], dict[str, str], bytes]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def answer(self, asked: dict[str, Any], headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        self.seen.append((asked, headers, body))
        key = headers.get(webhook.IDEMPOTENCY_KEY.lower(), "")
        if key and key not in self.keys:  # also when the answer is then lost
            self.keys.append(key)
            if asked["verb"] == "add":
                self.nodes[asked["node_id"]] = "running"
        if self.failures:
            return self.failures.pop(0), {"error": "not now"}
        return 200, {"nodes": self.nodes} if asked["verb"] == "observe" else {"detail": f"{asked['verb']} done"}


@pytest.fixture
def service() -> Iterator[Service]:
    kept = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, said = kept.answer(json.loads(body), {k.lower(): v for k, v in self.headers.items()}, body)
            text = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    kept.url = f"http://127.0.0.1:{server.server_address[1]}/nodes"
    yield kept
    server.shutdown()
    server.server_close()
    thread.join(10)


def hook(service: Service, secret: bytes = b"s3cret") -> WebhookProvisioner:
    return WebhookProvisioner(service.url, secret, "usage", timeout_seconds=10, pause=0.01)


def test_a_webhook_is_asked_with_a_signature_that_only_the_secret_makes(service: Service) -> None:
    assert hook(service).add_node("a", 12.5, "z1", "op1").detail == "add done"
    asked, headers, body = service.seen[0]
    assert asked == {
        "verb": "add", "pool_id": "usage", "node_id": "a", "capacity": 12.5, "zone": "z1", "operation_id": "op1",
    }  # fmt: skip
    stamp = headers[webhook.TIMESTAMP.lower()]
    assert headers[webhook.SIGNATURE.lower()] == webhook.signature(b"s3cret", stamp, body)
    assert headers[webhook.SIGNATURE.lower()] != webhook.signature(b"other", stamp, body)
    assert headers[webhook.SIGNATURE.lower()] != webhook.signature(b"s3cret", stamp, body + b" ")
    assert hook(service).observe() == {"a": "running"}


def test_a_webhook_that_fails_for_a_while_is_asked_again_under_the_same_key(service: Service) -> None:
    service.failures = [503, 500, 429]
    assert hook(service).add_node("a", 1, "", "op1").detail == "add done"
    assert service.keys == ["op1"]
    assert len(service.seen) == 4


def test_a_webhook_that_says_no_is_not_asked_again(service: Service) -> None:
    service.failures = [403]
    with pytest.raises(Refused, match=r"refused drain a with status 403: .*not now"):
        hook(service).drain_node("a", "op1")
    assert len(service.seen) == 1


def test_a_webhook_that_stays_away_is_named(service: Service) -> None:
    service.failures = [503] * webhook.ATTEMPTS
    with pytest.raises(ForeshardError, match=re.escape(f"{service.url} did not do remove a in 4 attempts (status 503)")):
        hook(service).remove_node("a", "op1")


def test_the_secret_is_read_from_a_file_below_the_settings(service: Service, tmp_path: Path) -> None:
    text = f'[provisioner]\nkind = "webhook"\nurl = "{service.url}"\nsecret_file = "secret"\n'
    (tmp_path / "foreshard.toml").write_text(text, "utf-8")
    with pytest.raises(ForeshardError, match="secret cannot be read: No such file"):
        provisioner_of(load(tmp_path / "foreshard.toml"))
    (tmp_path / "secret").write_text("s3cret\n", "utf-8")
    provisioner_of(load(tmp_path / "foreshard.toml")).drain_node("a", "op1")
    _, headers, body = service.seen[0]
    assert headers[webhook.SIGNATURE.lower()] == webhook.signature(b"s3cret", headers[webhook.TIMESTAMP.lower()], body)


# Settings


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('kind = "command"', "provisioner.command"),
        ('kind = "webhook"', "provisioner.url"),
        ('kind = "webhook"\nurl = "http://x"', "provisioner.secret_file"),
        ("timeout_seconds = 0", "provisioner.timeout_seconds"),
        ('kind = "magic"', "provisioner.kind"),
    ],
)
def test_settings_that_make_no_sense_are_named(text: str, field: str, tmp_path: Path) -> None:
    (tmp_path / "foreshard.toml").write_text(f"[provisioner]\n{text}\n", "utf-8")
    with pytest.raises(ForeshardError, match=rf"foreshard.toml: {field}"):
        load(tmp_path / "foreshard.toml")


def test_without_a_provisioner_operators_are_told_what_is_theirs_to_do(tmp_path: Path) -> None:
    (tmp_path / "foreshard.toml").write_text("", "utf-8")
    nodes = provisioner_of(load(tmp_path / "foreshard.toml"))
    assert isinstance(nodes, NoProvisioner)
    assert "foreshard pipeline --node a" in nodes.add_node("a", 1, "", "op").detail
    assert nodes.observe() == {}
