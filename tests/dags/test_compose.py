"""docker-compose.yaml stays in step with what is tested here: versions, environment, commands, scripts."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from foreshard import cli
from foreshard.local.airflow import COMPONENTS, LocalAirflow
from foreshard.settings import Settings, parse

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
# Found at random free ports by the local Airflow, and at their defaults in containers of their own.
PORTS = {"AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT", "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT"}


def _commands() -> dict[str, list[str]]:
    return {name: service["command"].split() for name, service in SERVICES.items() if "command" in service}


def test_what_services_refer_to_is_declared() -> None:
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", [])) <= set(SERVICES), name
        assert {entry["source"] for entry in service.get("configs", [])} <= set(COMPOSE["configs"]), name
        assert {entry.split(":")[0] for entry in service.get("volumes", [])} <= set(COMPOSE["volumes"]), name


def test_every_image_is_pinned() -> None:
    for name, service in SERVICES.items():
        assert re.search(r":\d+\.\d+", service["image"]), name
    assert re.search(r"^FROM \S+:\d+\.\d+\.\d+-", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)


def test_the_image_has_the_version_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert COMPOSE["x-foreshard"]["image"] == f"foreshard:{version}"


def test_airflow_has_the_environment_that_is_tested_locally(tmp_path: Path) -> None:
    local = LocalAirflow(Settings(home=tmp_path), metadata_url="postgresql://x@y/z", postgres_url="postgresql://x@y/w")
    tested = {key for key in local.environment() if key.startswith(("AIRFLOW", "FORESHARD"))} - PORTS
    composed = {key.removesuffix("_CMD") for key in COMPOSE["x-airflow"]["environment"] if not key.startswith("<<")}
    assert composed == tested
    same = ("EXECUTOR", "PARALLELISM", "LOAD_EXAMPLES", "IDLE_SLEEP_TIME", "AT_CREATION", "PARSING_PROCESSES")
    for key, value in local.environment().items():
        if key.endswith(same):
            assert COMPOSE["x-airflow"]["environment"][key] == value, key


def test_all_of_airflows_components_run() -> None:
    assert {words[1] for words in _commands().values() if words[0] == "airflow"} == set(COMPONENTS)


def test_commands_exist_with_their_options() -> None:
    foreshard: Any = get_command(cli.app)
    for name, (program, *words) in _commands().items():
        if program == "foreshard":
            known = {option for parameter in foreshard.commands[words[0]].params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= known, name
        elif "/" in program:
            assert (ROOT / program).stat().st_mode & 0o111, name
        else:
            assert program in ("airflow", "spark-class"), name


def test_the_settings_are_valid_and_name_the_pipelines_that_run() -> None:
    settings = parse(tomllib.loads(COMPOSE["configs"]["foreshard"]["content"]), "docker-compose.yaml")
    running = {words[words.index("--node") + 1] for words in _commands().values() if "--node" in words}
    assert {node.node_id for node in settings.nodes} == running
    assert {node.url for node in settings.nodes} == {f"http://{node}:8082" for node in running}


def _docker_compose() -> list[str] | None:
    """The command of Docker Compose v2 or later, if this machine has one."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            version = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, check=False).stdout
            if re.match(r"v?([2-9]|\d\d)\.", version):
                return command
    return None


@pytest.mark.skipif(_docker_compose() is None, reason="Docker Compose is not installed")
def test_docker_compose_accepts_the_file() -> None:
    command = [*(_docker_compose() or []), "-f", str(ROOT / "docker-compose.yaml"), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
