"""From what was measured on many models to verdicts, tables, plots and pages. Needs no model and no torch."""
