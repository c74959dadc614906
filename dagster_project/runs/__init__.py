"""Where Dagster keeps its runs, and what a failed one means."""
