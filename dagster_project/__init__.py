"""The orchestration of the method: a Dagster code location, MLflow tracking, and the command line `lwf`."""
