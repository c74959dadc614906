"""Makes one cell: inputs, recipe, work, and the checks of what came out."""
