"""How a test starts the JVM of a session of many short jobs: one compiler tier, a serial collector, shared classes."""

from __future__ import annotations

import shlex

from foreshard.local.spark import submit_conf
from foreshard.settings import Settings, SparkSettings

_KEPT = ("spark.driver.extraJavaOptions", "spark.driver.extraClassPath", "spark.driver.memory")


def submit_args() -> str:
    """A value for PYSPARK_SUBMIT_ARGS."""
    conf = submit_conf(Settings(spark=SparkSettings(driver_java_options="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")))
    return " ".join(f"--conf {shlex.quote(f'{key}={conf[key]}')}" for key in _KEPT) + " pyspark-shell"
