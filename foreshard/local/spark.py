"""Where Delta's jars and Java are, and how Spark is configured and started on this machine.

`make setup` resolves the jars once into the virtual environment: jobs never resolve packages at run time.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from foreshard.errors import ForeshardError
from foreshard.settings import Settings

OLDEST_JAVA = 17
_SHIPPED = (("foreshard", "*.py"), ("sql", "*.sql"), ("expectations", "*.json"))


def jars() -> list[Path]:
    """Delta's jars, sorted; raises ForeshardError if they are not there."""
    folder = Path(sys.prefix) / "share" / "foreshard" / "jars"
    found = sorted(folder.glob("*.jar"))
    if not any(jar.name.startswith("io.delta_delta-spark_") for jar in found):
        raise ForeshardError(f"Delta's jars are not in {folder}; run make setup, which resolves them once")
    return found


def java_home() -> Path | None:
    """The folder of the Java that Spark will use, or None if `java` on the PATH is to be used as it is.

    Raises ForeshardError if there is none or it is too old, saying what to install.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None or not Path(java).exists():
        where = f"JAVA_HOME is {home}, and no Java is there" if home else "no Java is on the PATH"
        raise ForeshardError(
            f"{where}; install Java {OLDEST_JAVA} or later (on Debian: apt-get install openjdk-17-jre-headless)"
        )
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', told)
    if found is None or int(found[1]) < OLDEST_JAVA:
        raise ForeshardError(
            f"{java} is {found[1] if found else 'of an unknown version'}, and Spark needs Java {OLDEST_JAVA} or later; "
            "install it (on Debian: apt-get install openjdk-17-jre-headless)"
        )
    return Path(home) if home else None


def spark_home() -> Path:
    """The folder of the pyspark package, which is a whole Spark with `bin/` and `jars/`."""
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise ForeshardError("pyspark is not installed; run make setup")
    return Path(spec.origin).parent


def class_archive() -> Path:
    """Where `make setup` keeps the classes that jobs load, for the versions that are installed."""
    versions = "-".join(f"{name}-{version(name)}" for name in ("pyspark", "delta-spark"))
    return Path(sys.prefix) / "share" / "foreshard" / f"classes-{versions}.jsa"


def java_option(option: str) -> str:
    """One option, in quotes if it has spaces, at which Spark would part it."""
    return f'"{option}"' if re.search(r"\s", option) else option


def driver_java_options(options: str) -> str:
    """Options of the driver's JVM with the shared classes, if there are any; it says nothing if they do not suit it."""
    archive = class_archive()
    shared = [java_option(f"-XX:SharedArchiveFile={archive}"), "-Xlog:disable"] if archive.exists() else []
    return " ".join([options, *shared]).strip()


def submit_conf(settings: Settings) -> dict[str, str]:
    """Spark's configuration for a job on this machine, with Delta, UTC and small shuffles."""
    options = {"spark.driver.extraJavaOptions": driver_java_options(settings.spark.driver_java_options)}
    return {
        **{key: value for key, value in options.items() if value},
        # The driver finds Delta on its own class path, whose classes it can share; executors are sent the jars.
        "spark.driver.extraClassPath": os.pathsep.join(str(jar) for jar in jars()),
        "spark.jars": ",".join(str(jar) for jar in jars()),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(settings.spark.shuffle_partitions),
        "spark.sql.warehouse.dir": str(settings.home / "spark-warehouse"),
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.driver.memory": settings.spark.driver_memory,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }


def environment() -> dict[str, str]:
    """Environment variables for spark-submit and its workers: this interpreter, this Spark, loopback only, UTC."""
    return {
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "SPARK_HOME": str(spark_home()),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "TZ": "UTC",
    }


def submit_command(
    settings: Settings,
    script: Path | str,
    args: Sequence[str],
    master: str | None = None,
    conf: Mapping[str, str] | None = None,
) -> list[str]:
    """The spark-submit command that runs `script` with `args`; run it with `environment()` added to the environment.

    `conf` wins over what the settings say.
    """
    java_home()
    command = [str(spark_home() / "bin" / "spark-submit"), "--master", master or settings.spark.master]
    for key, value in {**submit_conf(settings), **(conf or {})}.items():
        command += ["--conf", f"{key}={value}"]
    return [*command, str(script), *args]


def package_archive(folder: Path) -> Path:
    """Writes `foreshard.zip` into `folder`: the package with `sql/` and `expectations/`, for `--py-files`."""
    root = Path(__file__).resolve().parents[2]
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / "foreshard.zip"
    partial = archive.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as package:
        for name, pattern in _SHIPPED:
            for file in sorted((root / name).rglob(pattern)):
                package.write(file, file.relative_to(root))
    partial.replace(archive)
    return archive
