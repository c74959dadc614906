"""`make gpu-check`: what only a GPU can show, in one command of less than four minutes."""
