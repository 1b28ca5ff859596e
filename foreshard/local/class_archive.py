"""Keeps the Java classes that Spark jobs load in one file that the JVM maps into memory, instead of reading them from jars.

`python -m foreshard.local.class_archive` makes it, in the virtual environment. A JVM that the file does not suit ignores it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from foreshard.local.spark import class_archive, environment, java_option, spark_home, submit_conf
from foreshard.settings import Settings

_JOB = "from foreshard.lake.rehearsal import rehearse\nrehearse(Path(sys.argv[1]))\n"


def make() -> Path:
    """Runs the rehearsal and keeps the classes that it loaded; returns the file. Raises CalledProcessError if it fails."""
    archive = class_archive()
    archive.unlink(missing_ok=True)
    archive.parent.mkdir(parents=True, exist_ok=True)
    partial = archive.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    conf = submit_conf(Settings()) | {
        "spark.driver.extraJavaOptions": f"{java_option(f'-XX:ArchiveClassesAtExit={partial}')} -Xlog:disable"
    }
    with tempfile.TemporaryDirectory() as folder:
        # Not the module itself: its folder would be on the path, where `delta` is another module.
        script = Path(folder) / "job.py"
        script.write_text("import sys\nfrom pathlib import Path\n" + _JOB, "utf-8")
        command = [str(spark_home() / "bin" / "spark-submit"), "--master", "local[2]"]
        for key, value in conf.items():
            command += ["--conf", f"{key}={value}"]
        subprocess.run([*command, str(script), folder], env={**os.environ, **environment()}, check=True)
    partial.replace(archive)
    return archive


if __name__ == "__main__":
    print(make(), file=sys.stderr)
