"""Runs a plan by hand, in this process."""
