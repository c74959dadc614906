"""A large study on a cluster that is simulated, planned by the real planner: where it stops getting faster, and why."""
