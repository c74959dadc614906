"""One module per kind of arm, named as the kind, each with `fine_tune(work, arm)`."""
