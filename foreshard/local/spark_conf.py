"""Writes Spark's configuration folder (SPARK_CONF_DIR), which holds for every job submitted from this machine.

`python -m foreshard.local.spark_conf FOLDER` writes it for the settings that are in force.
"""

from __future__ import annotations

import sys
from pathlib import Path

from foreshard.errors import ForeshardError
from foreshard.local.spark import java_option, submit_conf
from foreshard.settings import Settings, load

# Warnings and errors only: a job says what it did in its last line.
_LOG4J = """rootLogger.level = warn
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex
"""


def write(settings: Settings, folder: Path) -> None:
    """Writes `spark-defaults.conf` and `log4j2.properties` into the folder, making it if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    logging = folder / "log4j2.properties"
    logging.write_text(_LOG4J, "utf-8")
    conf = submit_conf(settings)
    options = [conf.get("spark.driver.extraJavaOptions", ""), java_option(f"-Dlog4j2.configurationFile={logging}")]
    conf["spark.driver.extraJavaOptions"] = " ".join(options).strip()
    defaults = "".join(f"{key} {value}\n" for key, value in conf.items())
    (folder / "spark-defaults.conf").write_text(defaults, "utf-8")


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m foreshard.local.spark_conf FOLDER", file=sys.stderr)
        return 2
    try:
        write(load(), Path(sys.argv[1]))
    except ForeshardError as error:
        print(f"spark_conf: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
