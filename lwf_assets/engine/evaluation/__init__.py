"""What a model answers, remembers, and how far its weights have moved."""
