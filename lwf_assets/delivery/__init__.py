"""A checkpoint for others: the model directory with its card, its lineage and its bill of materials."""
