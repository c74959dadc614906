"""What the reference, LWF and the arms share: one fine-tune per seed, and how each kind of arm differs."""
