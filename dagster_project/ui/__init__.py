"""What the Dagster UI shows of an artifact, and the servers behind both UIs."""
