"""Runs a plan on a Ray cluster: each cell a task of Ray's, on whichever node has room for it."""
