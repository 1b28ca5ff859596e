"""What `foreshard haproxy config` writes and refuses; the files themselves are tried by the live tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from foreshard.cli import app
from foreshard.errors import ForeshardError
from foreshard.proxies.haproxy_configuration import Options, backends, frontends, map_files
from foreshard.proxies.proxy_state import Server, nothing_held

OPTIONS = Options(Path("/srv/haproxy"), 4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"folder": Path("/srv/my folder")},
        {"folder": Path("/" + "a" * 91)},
        {"folder": Path("relative")},
        {"bind": "*:80\n  stats enable"},
        {"balance": "random"},
        {"check": "/ready z"},
        {"gateways": ("https://gateway",)},
        {"gateways": ("http://gateway:x",)},
        {"gateways": ("http://gate way:1",)},
        {"gateways": ("http://gateway/prefix",)},
    ],
)
def test_what_cannot_be_written_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ForeshardError):
        frontends(replace(OPTIONS, **wrong))


def test_every_placeholder_is_filled_and_the_hash_is_the_pools() -> None:
    text = frontends(replace(OPTIONS, gateways=("http://gateway-1:8080", "http://[::1]:81")))
    assert "<<" not in text
    assert "xxh64(42),and(15)" in text
    assert "server gateway-1 gateway-1:8080 check" in text
    assert "server gateway-2 [::1]:81 check" in text
    assert "use_backend gateways if !keyed" in text


def test_the_file_of_backends_has_what_haproxy_held() -> None:
    state = nothing_held(own_backends=1, checks=2)
    servers = {**state.servers, ("s3", "a:1"): Server(("::1", 80), 77)}
    text = backends(replace(state, servers=servers, checks={1: ("::1", 80), 2: None}), 2, Path("/srv/haproxy"))
    assert "backend s3\n  server a:1 [::1]:80 weight 77 track nodes/n1\n" in text
    assert "  server n1 [::1]:80 check\n  server n2 127.0.0.1:1 check disabled\n" in text
    assert "backend own0\n  server slot unix@/srv/haproxy/slots.sock weight 1\n" in text
    assert [line for line in text.splitlines() if line.startswith("backend s")] == [
        f"backend s{slot}{ending}" for slot in range(4) for ending in ("", "-recent")
    ]
    assert map_files(replace(state, recent_from={"s3": "2013-11-21"}))["recent.map"] == "s3 2013-11-21\n"


def test_the_command_writes_once_and_again_only_if_forced(tmp_path: Path) -> None:
    settings = tmp_path / "foreshard.toml"
    settings.write_text('home = "var"\nslot_bits = 3\n', "utf-8")
    words = ["haproxy", "config", "--settings", str(settings)]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    folder = tmp_path / "var" / "haproxy"
    assert done.output.strip() == f"haproxy -W -f {folder}/frontends.cfg -f {folder}/backends.cfg"
    with pytest.raises(ForeshardError, match="--force"):
        CliRunner().invoke(app, words, catch_exceptions=False)
    CliRunner().invoke(app, [*words, "--force", "--balance", "leastconn"], catch_exceptions=False)
    assert "balance leastconn" in (folder / "frontends.cfg").read_text("utf-8")


def test_a_pool_of_too_many_slots_gets_no_configuration(tmp_path: Path) -> None:
    settings = tmp_path / "foreshard.toml"
    settings.write_text("slot_bits = 14\n", "utf-8")
    with pytest.raises(ForeshardError, match="16384 slots"):
        CliRunner().invoke(app, ["haproxy", "config", "--settings", str(settings)], catch_exceptions=False)
