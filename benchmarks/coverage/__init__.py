"""How often the intervals of the reports cover the truth, beside rival intervals."""
