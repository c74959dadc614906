"""Learning With Forgetting outside of the pipeline: see docs/use-outside.md."""
