"""What follows from the evaluations of several models: effects, verdicts, rankings, promotion."""
