"""What a cell will cost: arithmetic, memory at the peak, and wall time. No torch."""
