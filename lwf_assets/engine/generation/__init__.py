"""Generation: a response to each prompt, drawn so that it follows from the seed and the prompt alone.

`responses` is the work: numbering, batches, resuming. `draws` decides which token comes next, `decoding` runs the model
step by step, `captured_step` launches a step as one, `ends` knows the tokens that end a response. `vllm_engine` does
the work with vLLM instead.
"""

from lwf_assets.engine.generation.decoding import Sampling
from lwf_assets.engine.generation.ends import end_token_ids, response_end_ids, response_text
from lwf_assets.engine.generation.responses import BatchSize, generate

__all__ = ["BatchSize", "Sampling", "end_token_ids", "generate", "response_end_ids", "response_text"]
