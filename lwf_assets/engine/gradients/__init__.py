"""Gradients of single samples, for the price of one training step."""
