"""The plots of the reports, each a function that gives a matplotlib figure."""
