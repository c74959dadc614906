"""Asset self_generated_corpus: D_self, what the base model itself says to the forgetting prompts.

The pre-training data is out of reach; the model's own samples stand for what it knows (LWF, eliciting self-knowledge).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from lwf_assets.cost.batch_rows import batch_rows
from lwf_assets.cost.model_size import read_facts
from lwf_assets.errors import LwfError
from lwf_assets.store.layout import CORPUS, CUT_AT_LENGTH, EMPTY_RESPONSE, ENDED_BY_MODEL, PROMPTS
from lwf_assets.store.tables import read_rows, write_rows
from lwf_assets.tasks.rows import prompt_of, with_turns

if TYPE_CHECKING:
    from lwf_assets.graph.work import Work


def materialize(work: Work) -> dict[str, Any]:
    """Write the responses: id, prompt, response, both as token ids, tokens, and how each ended."""
    from lwf_assets.engine.checkpoint import load_model, load_outline, load_tokenizer
    from lwf_assets.engine.generation import Sampling, response_end_ids, response_text
    from lwf_assets.engine.generation.vllm_engine import generate_with_vllm
    from lwf_assets.engine.samples import encode_prompt
    from lwf_assets.engine.shared_generation import generate_together

    settings = work.study.generation
    base = work.input("base_model")
    model = (load_outline if settings.engine == "vllm" else load_model)(base)
    tokenizer = load_tokenizer(base)
    context = work.context(model)
    asked = [
        {**row, "prompt_id": row["id"], "id": f"{row['id']}/{draw}"}
        for row in read_rows(work.input("forgetting_prompts") / PROMPTS)
        for draw in range(settings.samples_per_prompt)
    ]
    shown = [prompt_of(row) for row in asked]
    prompts = [
        context.fit(
            encode_prompt(tokenizer, prompt, row_id=row["prompt_id"]),
            room=settings.max_new_tokens,
            row_id=row["prompt_id"],
        )
        for row, prompt in zip(asked, shown, strict=True)
    ]
    end_ids = response_end_ids(model, tokenizer, shown)
    work.progress.begin("Self-generated corpus", len(prompts))
    dtype = work.study.model.dtype
    if settings.engine == "vllm":
        sampling = Sampling(settings.max_new_tokens, end_ids, settings.temperature, settings.top_p, settings.seed)
        responses = generate_with_vllm(
            base, prompts, sampling, dtype=dtype, shards=work.scratch, progress=work.progress
        )
    else:
        responses = generate_together(
            model,
            prompts,
            max_new_tokens=settings.max_new_tokens,
            pad_id=tokenizer.pad_token_id,
            end_ids=end_ids,
            temperature=settings.temperature,
            top_p=settings.top_p,
            batch_size=batch_rows(settings.batch_size, read_facts(base, dtype)),
            seed=settings.seed,
            shards=work.scratch,
            progress=work.progress,
        )
    rows = []
    for row, prompt_ids, response_ids in zip(asked, prompts, responses, strict=True):
        text = response_text(tokenizer, response_ids, end_ids)
        ended = EMPTY_RESPONSE if not text.strip() else ENDED_BY_MODEL if response_ids[-1] in end_ids else CUT_AT_LENGTH
        rows.append(
            {
                "id": row["id"],
                "prompt_id": row["prompt_id"],
                "source_task": row["source_task"],
                "prompt": row["prompt"],
                "messages": row.get("messages"),
                "response": text,
                "prompt_ids": prompt_ids,
                "response_ids": response_ids,
                "tokens": len(response_ids),
                "ended": ended,
            }
        )
    if all(row["ended"] == EMPTY_RESPONSE for row in rows):
        raise LwfError(
            f"forgetting_tasks.{work.forgetting_task}: the base model answered all {len(rows)} prompts with empty "
            "text; check that the prompt form suits the model (for most models it ends in `Answer:`)"
        )
    write_rows(work.out / CORPUS, with_turns(rows))
    counts = Counter(row["ended"] for row in rows)
    return {
        "responses": len(rows),
        "tokens": sum(row["tokens"] for row in rows),
        "prompt_tokens": sum(map(len, prompts)),
        "longest": max(len(row["prompt_ids"]) + row["tokens"] for row in rows),
        **{f"share_{ended}": counts[ended] / len(rows) for ended in (ENDED_BY_MODEL, CUT_AT_LENGTH, EMPTY_RESPONSE)},
        "share_repeated": 1 - len({row["response"] for row in rows}) / len(rows),
    }
