# One image for Airflow, Spark, the pipelines and the gateway: the same environment that `make setup` makes.
FROM python:3.11.14-slim-bookworm

# The Java package's set-up expects the folder of manual pages, which this image leaves out.
RUN mkdir -p /usr/share/man/man1 \
    && apt-get update \
    && apt-get install -y --no-install-recommends openjdk-17-jre-headless procps \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/foreshard
# The packages first: they change less often than the code.
COPY requirements.txt pyproject.toml README.md LICENSE ./
COPY foreshard/__init__.py foreshard/__init__.py
COPY scripts scripts
RUN scripts/setup.sh
COPY . .

RUN useradd --system --uid 1000 --home-dir /var/lib/foreshard --create-home foreshard
USER foreshard
ENV PATH=/opt/foreshard/.venv/bin:$PATH \
    PYSPARK_PYTHON=/opt/foreshard/.venv/bin/python \
    PYSPARK_DRIVER_PYTHON=/opt/foreshard/.venv/bin/python \
    SPARK_CONF_DIR=/var/lib/foreshard/spark-conf \
    FORESHARD_SETTINGS=/etc/foreshard/foreshard.toml
