"""From what was measured on many models to verdicts, tables, plots and pages. Reads tables alone: no model, no torch."""
