"""MLflow: its address, the runs of cells, registered models, champions, and what it knows of artifacts."""
