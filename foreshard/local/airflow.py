"""A whole Airflow as our own children: api-server, scheduler, DAG processor and triggerer, on the embedded Postgres.

Each component leads a session of its own, and its id and start time are on disk: whatever kills us, the next start finds what
is left of it, workers and Spark jobs included, and stops that and nothing else.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TextIO

import psutil

from foreshard.errors import ForeshardError
from foreshard.local import spark, spark_conf
from foreshard.local.airflow_api import AirflowApi
from foreshard.local.postgres import EmbeddedPostgres
from foreshard.local.processes import ChildProcess, free_port, start, tail, wait_until
from foreshard.local.secret_file import load_secrets, write_private
from foreshard.local.sessions import Leader, stop_sessions
from foreshard.routing import database
from foreshard.settings import ENVIRONMENT_VARIABLE, Settings

USERNAME = "admin"
METADATA_DATABASE = "airflow"
SPARK_POOL = "spark"
HOURLY_VARIABLE = "FORESHARD_HOURLY"
PROPERTIES_VARIABLE = "FORESHARD_SPARK_PROPERTIES"
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
START_SECONDS = 180
_SECRETS = ("password", "secret_key", "jwt_secret")


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
        self._lock: TextIO | None = None
        self._started_file = self.folder / "started.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._secrets = load_secrets(self.folder / "secrets.json", _SECRETS)
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
        self._take_lock()
        self.stop_leftovers()
        _require_free(self.port)
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
        """TERM to every process of this Airflow, KILL after ten seconds; returns when all are gone."""
        self.api.close()
        if self._lock is None:
            return
        self.stop_leftovers()
        self._children.clear()
        self._lock.close()
        self._lock = None

    def stop_leftovers(self) -> None:
        """Stops what the last start left behind, whoever started it; does nothing if that is nothing."""
        try:
            leaders = [Leader(**entry) for entry in json.loads(self._started_file.read_text("utf-8"))]
        except (FileNotFoundError, ValueError, TypeError):
            return
        stop_sessions(leaders, [child.process for child in self._children.values()])
        self._started_file.unlink(missing_ok=True)

    def first_ended(self) -> str | None:
        """The name of a component that is no longer running, if there is one."""
        return next((name for name, child in self._children.items() if not child.is_running()), None)

    def _take_lock(self) -> None:
        """One at a time: what another start finds running it takes for left over. The lock ends with its holder."""
        handle = (self.folder / "lock").open("a")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            raise ForeshardError(f"another foreshard runs Airflow under {self.folder}; stop it first") from None
        self._lock = handle

    def _record_started(self) -> None:
        leaders = [asdict(Leader(c.pid, psutil.Process(c.pid).create_time())) for c in self._children.values()]
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
            # As a file and not as SPARK_CONF_DIR: a folder on the class path keeps the JVM from sharing classes.
            PROPERTIES_VARIABLE: str(self.folder / "spark" / "spark-defaults.conf"),
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
        spark_conf.write(self.settings, self.folder / "spark")
        write_private(self.folder / "passwords.json", {USERNAME: self.password})


def _require_free(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise ForeshardError(f"port {port} is in use; choose another with --port") from None


def run_airflow(settings: Settings, port: int = 8080, *, hourly: bool = True) -> None:
    """Starts Postgres and Airflow, prints address and log-in, and stops what it started on Ctrl-C or TERM."""
    postgres = EmbeddedPostgres(settings.home / "postgres")
    had_run = postgres.url() is not None
    embedded_url = postgres.start()
    control_plane = settings.postgres_url or embedded_url
    try:
        database.migrate(control_plane)
        airflow = LocalAirflow(
            settings,
            metadata_url=postgres.create_database(METADATA_DATABASE),
            postgres_url=control_plane,
            port=port,
            hourly=hourly,
        )
        with _terminated_as_interrupt():
            try:
                airflow.start(print)
                print(f"Airflow: {airflow.url}   user {USERNAME}, password {airflow.password}   Ctrl-C stops it", flush=True)
                while (ended := airflow.first_ended()) is None:
                    time.sleep(1)
                raise ForeshardError(f"Airflow's {ended} ended{tail(airflow.log_folder / (ended + '.log'))}")
            except KeyboardInterrupt:
                print("stopping", flush=True)
            finally:
                airflow.stop()
    finally:
        if not had_run:
            postgres.stop()


@contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    """TERM is met like Ctrl-C, so that the children are stopped."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
