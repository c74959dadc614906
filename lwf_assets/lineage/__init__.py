"""What an artifact was made from, whether that still holds, and what else was made from the same."""
