"""Rows of local files: which files a study names, how each format is read, and what a file with a wrong ending is."""
