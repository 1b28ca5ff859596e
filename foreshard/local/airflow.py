"""A whole Airflow as our own children: api-server, scheduler, DAG processor and triggerer, on the embedded Postgres.

Each component leads a session of its own, and its id and start time are on disk: whatever kills us, the next start finds what
is left of it, workers and Spark jobs included, and stops that and nothing else.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

import psutil

from foreshard.errors import ForeshardError
from foreshard.local import spark
from foreshard.local.airflow_api import AirflowApi
from foreshard.local.processes import ChildProcess, free_port, start, tail, wait_until
from foreshard.settings import ENVIRONMENT_VARIABLE, Settings

USERNAME = "admin"
SPARK_POOL = "spark"
HOURLY_VARIABLE = "FORESHARD_HOURLY"
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
START_SECONDS = 180
STOP_SECONDS = 10
_SECRETS = ("password", "secret_key", "jwt_secret", "fernet_key")
_LOG4J = """rootLogger.level = warn
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex
"""


class LocalAirflow:
    """Airflow under `settings.home/airflow`, with its metadata in `metadata_url`'s database. Use it in a `with` block.

    `postgres_url` is the control plane's database, for the tasks. `dags_folder` and `plugins_folder` are the checkout's own
    unless given; `port` 0 chooses a free one. `spark_slots` bounds how many Spark jobs run at once. Without `hourly` the clock
    starts nothing: hours are aggregated when triggered by their partition key, as for a log of the past.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        metadata_url: str,
        postgres_url: str,
        port: int = 0,
        dags_folder: Path | None = None,
        plugins_folder: Path | None = None,
        spark_slots: int = 1,
        hourly: bool = True,
    ) -> None:
        root = Path(__file__).resolve().parents[2]
        self.settings = settings
        self.folder = settings.home / "airflow"
        self.dags_folder = dags_folder or root / "dags"
        self.plugins_folder = plugins_folder or root / "plugins"
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_folder = self.folder / "components"
        self._metadata_url = metadata_url
        self._postgres_url = postgres_url
        self._spark_slots = spark_slots
        self._hourly = hourly
        self._children: dict[str, ChildProcess] = {}
        self._started_file = self.folder / "started.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._secrets = _load_secrets(self.folder / "secrets.json")
        self.password = self._secrets["password"]
        self.api = AirflowApi(self.url, USERNAME, self.password)

    def __enter__(self) -> LocalAirflow:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self, progress: Callable[[str], None] = lambda line: None) -> None:
        """Starts everything and returns when DAGs can run; raises ForeshardError with the log's tail if it does not come up."""
        self.stop_leftovers()
        spark.java_home()
        self._write_files()
        environment = {**os.environ, **self.environment()}
        progress("Airflow: preparing its database")
        self._migrate(environment)
        progress("Airflow: starting its components")
        for name in COMPONENTS:
            self._children[name] = start(
                [sys.executable, "-m", "airflow", name], self.log_folder / f"{name}.log", environment, self.folder
            )
            self._record_started()
        api_server = self._children["api-server"]
        wait_until(self.api.is_healthy, START_SECONDS, "Airflow to report that it is healthy", child=api_server)
        self.api.set_pool(SPARK_POOL, self._spark_slots, "Spark jobs that may run at once")
        expected = len(list(self.dags_folder.glob("*.py")))
        wait_until(
            lambda: len(self.api.dags()) + len(self.api.import_errors()) >= expected,
            START_SECONDS,
            f"the {expected} files in {self.dags_folder} to be read",
            child=self._children["dag-processor"],
        )

    def stop(self) -> None:
        """TERM to every process of this Airflow, KILL after STOP_SECONDS; returns when all are gone."""
        self.api.close()
        self.stop_leftovers()
        self._children.clear()

    def stop_leftovers(self) -> None:
        """Stops what the last start left behind, whoever started it; does nothing if that is nothing."""
        try:
            leaders = [_Leader(**entry) for entry in json.loads(self._started_file.read_text("utf-8"))]
        except (FileNotFoundError, ValueError, TypeError):
            return
        _stop_sessions(leaders, [child.process for child in self._children.values()])
        self._started_file.unlink(missing_ok=True)

    def _record_started(self) -> None:
        leaders = [asdict(_Leader(c.pid, psutil.Process(c.pid).create_time())) for c in self._children.values()]
        partial = self._started_file.with_suffix(".partial")
        partial.write_text(json.dumps(leaders), "utf-8")
        partial.replace(self._started_file)

    def environment(self) -> dict[str, str]:
        """What every component and task needs in its environment, beside what it inherits."""
        settings = self.settings
        master = json.dumps({"conn_type": "spark", "host": settings.spark.master})
        environment = {
            **spark.environment(),
            # The Spark operator looks for spark-submit on the PATH.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "SPARK_CONF_DIR": str(self.folder / "spark"),
            "FORESHARD_POSTGRES_URL": self._postgres_url,
            HOURLY_VARIABLE: "on" if self._hourly else "off",
            "AIRFLOW_HOME": str(self.folder),
            # The URI form of this connection would silently mean YARN.
            "AIRFLOW_CONN_SPARK_DEFAULT": master,
            **{f"AIRFLOW__{key}": value for key, value in self._options().items()},
        }
        if settings.path:
            environment[ENVIRONMENT_VARIABLE] = str(settings.path)
        return environment

    def _options(self) -> dict[str, str]:
        driver = self._metadata_url.replace("postgresql://", "postgresql+psycopg2://", 1)
        return {
            "CORE__DAGS_FOLDER": str(self.dags_folder),
            "CORE__PLUGINS_FOLDER": str(self.plugins_folder),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": "4",
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "CORE__FERNET_KEY": self._secrets["fernet_key"],
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USERNAME}:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.folder / "passwords.json"),
            "DATABASE__SQL_ALCHEMY_CONN": driver,
            "API__HOST": "127.0.0.1",
            "API__PORT": str(self.port),
            "API__BASE_URL": self.url,
            "API__WORKERS": "1",
            "API__SECRET_KEY": self._secrets["secret_key"],
            "API_AUTH__JWT_SECRET": self._secrets["jwt_secret"],
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            "DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "LOGGING__BASE_LOG_FOLDER": str(self.folder / "logs"),
            "LOGGING__COLORED_CONSOLE_LOG": "False",
            "LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        }

    def _migrate(self, environment: dict[str, str]) -> None:
        log = self.log_folder / "migrate.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            command = [sys.executable, "-m", "airflow", "db", "migrate"]
            status = subprocess.run(
                command, env=environment, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
            ).returncode
        if status != 0:
            raise ForeshardError(f"Airflow could not prepare its database{tail(log)}")

    def _write_files(self) -> None:
        """Spark's defaults for the jobs of the DAGs, and the log-in's password, readable by the owner alone."""
        folder = self.folder / "spark"
        folder.mkdir(exist_ok=True)
        defaults = "".join(f"{key} {value}\n" for key, value in spark.submit_conf(self.settings).items())
        (folder / "spark-defaults.conf").write_text(defaults, "utf-8")
        (folder / "log4j2.properties").write_text(_LOG4J, "utf-8")
        _write_private(self.folder / "passwords.json", {USERNAME: self.password})


def _load_secrets(file: Path) -> dict[str, str]:
    """Random secrets, made at the first start and kept, so that what Airflow encrypted stays readable."""
    from cryptography.fernet import Fernet

    if not file.exists():
        made = {name: secrets.token_urlsafe(24) for name in _SECRETS} | {"fernet_key": Fernet.generate_key().decode("ascii")}
        _write_private(file, made)
    loaded: dict[str, str] = json.loads(file.read_text("utf-8"))
    return loaded


def _write_private(file: Path, content: dict[str, str]) -> None:
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as handle:
        json.dump(content, handle)


@dataclass(frozen=True)
class _Leader:
    """A component that was started: the leader of its own session, told from a stranger with the same id by its start time."""

    pid: int
    started: float

    def owns(self, process: psutil.Process) -> bool:
        """Whether the process is the component or one it started, which stays in its session even when the component died."""
        if os.getsid(process.pid) != self.pid or process.status() == psutil.STATUS_ZOMBIE:
            return False
        # A session's id is not given away while it has members, so that only a leader of another start time is a stranger.
        return not psutil.pid_exists(self.pid) or abs(psutil.Process(self.pid).create_time() - self.started) < 1


def _stop_sessions(leaders: list[_Leader], own: list[subprocess.Popen[bytes]]) -> None:
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
        for process in _members(leaders):
            with suppress(psutil.Error):
                process.send_signal(number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for child in own:
                child.poll()  # reaps it
            if not _members(leaders):
                return
            time.sleep(0.1)
    left = ", ".join(str(process.pid) for process in _members(leaders))
    if left:
        raise ForeshardError(f"Airflow's processes {left} do not stop; look at them with ps and kill them")


def _members(leaders: list[_Leader]) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if any(leader.owns(process) for leader in leaders):
                found.append(process)
    return found
