"""Whether something is forgotten or only hidden: relearning, rounded weights."""
