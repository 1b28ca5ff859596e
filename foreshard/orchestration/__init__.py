"""What the DAGs are wired from. Only this package, `dags` and `plugins` import Airflow.

A DAG file is parsed every half minute, so nothing heavy is imported before a task runs.
"""
