"""The fine-tune on the Hugging Face Trainer, and what may be added to it."""
