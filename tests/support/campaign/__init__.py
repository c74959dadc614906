"""Attacks on the pipeline, many at random, and the page that says what was tried and what survived."""
