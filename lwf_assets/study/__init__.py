"""What is wanted: the settings of a study, the file that they are read from, and what can be wrong with it."""
