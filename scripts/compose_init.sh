#!/usr/bin/env bash
# Prepares what the services of docker-compose.yaml share; safe to repeat.
set -euo pipefail
home=/var/lib/foreshard
mkdir -p "$home/airflow"
umask 077

# Secrets that Airflow's components must share; made once.
for name in secret_key jwt_secret; do
  [ -s "$home/airflow/$name" ] || python -c 'import secrets; print(secrets.token_urlsafe(32))' >"$home/airflow/$name"
done
[ -s "$home/airflow/fernet_key" ] ||
  python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())' >"$home/airflow/fernet_key"

python -m foreshard.local.spark_conf "$SPARK_CONF_DIR"
airflow db migrate
airflow pools set spark 1 "Spark jobs that may run at once"
foreshard init
