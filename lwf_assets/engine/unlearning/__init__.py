"""Periodic unlearning: the callback, its ledger, the objectives, and the retention loss."""
