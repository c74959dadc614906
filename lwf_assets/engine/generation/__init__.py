"""Generation: a response to each prompt, drawn so that it follows from the seed and the prompt alone.

`responses` is the work: numbering, batches, resuming. `draws` decides which token comes next, `decoding` runs the model
step by step, `ends` knows the tokens that end a response.
"""

from lwf_assets.engine.generation.ends import end_token_ids, response_end_ids, response_text
from lwf_assets.engine.generation.responses import BatchSize, generate

__all__ = ["BatchSize", "end_token_ids", "generate", "response_end_ids", "response_text"]
