"""Files on disk: written whole or not at all, and known by their hashes."""
