"""What one model is measured on: test items, its own samples, other tasks, neutral text."""
