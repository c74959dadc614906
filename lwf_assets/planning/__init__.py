"""What is stale and why, and what it will cost to build. No Dagster."""
