"""What both examples begin with: a model and rows of one's own; what the model says by itself (D_self); and which half
of that conflicts most with what is to be learned (D_U)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from lwf_assets import Sample, confidence_terms, fisher_diagonal, load_study
from lwf_assets.building.materialize import materialize
from lwf_assets.engine.checkpoint import parameter_difference
from lwf_assets.engine.generation import end_token_ids, generate
from lwf_assets.engine.precision import best_device
from lwf_assets.engine.samples import encode_prompt
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell
from lwf_assets.store.home import DEFAULT_STUDY, Home
from lwf_assets.store.partition import Partition
from lwf_assets.tasks.sources import file_rows

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class OwnAnswer:
    """A prompt and the model's own answer to it, as text and as tokens."""

    id: str
    prompt: str
    response: str
    sample: Sample


def embedded_model() -> str:
    """The quickstart's 135M model, from the store, as an ordinary directory."""
    home = Home.from_environment()
    return str(materialize(load_study(DEFAULT_STUDY), home.store, Cell("base_model", Partition())).artifact.path)


def load_model(model: str | Path) -> PreTrainedModel:
    """A causal language model in fp32, for a fine-tune's small steps, on the best device, in evaluation mode."""
    return AutoModelForCausalLM.from_pretrained(model, dtype="float32").to(best_device()).eval()


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """Its tokenizer, with a padding token."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


def texts(path: Path, *columns: str) -> Iterator[tuple[str, ...]]:
    """The id of each row of a file of rows, and what it has in `columns`.

    Raises:
        LwfError: a row has no text in one of them.
    """
    for row in file_rows([path], origin=path.stem):
        for column in columns:
            if not isinstance(row.columns.get(column), str):
                raise LwfError(f"{row.place}: needs a text in {column!r}; it has {', '.join(row.columns) or 'nothing'}")
        yield row.id, *(row.columns[column] for column in columns)


def own_answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path, *, max_new_tokens: int = 32, seed: int = 0
) -> list[OwnAnswer]:
    """What `model` answers to the prompts in `path`, drawn at temperature 1; empty answers are left out.

    The draws follow from `seed`: a run that is resumed forgets the same answers.
    """
    rows = list(texts(path, "prompt"))
    asked = [ask(tokenizer, prompt) for _, prompt in rows]
    responses = generate(
        model,
        asked,
        max_new_tokens=max_new_tokens,
        pad_id=tokenizer.pad_token_id,
        end_ids=end_token_ids(model, tokenizer.eos_token_id),
        temperature=1.0,
        seed=seed,
    )
    answers = [
        OwnAnswer(name, prompt, tokenizer.decode(response, skip_special_tokens=True), Sample(ids, response))
        for (name, prompt), ids, response in zip(rows, asked, responses, strict=True)
    ]
    return [answer for answer in answers if answer.response.strip()]


def ask(tokenizer: PreTrainedTokenizerBase, question: str) -> list[int]:
    """Token ids of a question: in the chat template, if the tokenizer has one."""
    if tokenizer.chat_template is None:
        return encode_prompt(tokenizer, question)
    messages = [{"role": "user", "content": question}]
    return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"])


def conflicting_half(
    own: Sequence[OwnAnswer],
    base: PreTrainedModel,
    reference: PreTrainedModel,
    learned: Sequence[Sample],
    *,
    alpha: float,
) -> list[OwnAnswer]:
    """The half of `own` with the highest forgetting confidence, the highest first.

    Args:
        own: D_self.
        base: the model before any fine-tune.
        reference: the same model after a fine-tune on `learned` without forgetting, loaded afresh: a Trainer leaves
            bf16 autocast on the model that it trained, and TRL a forward of its own.
        learned: D_L.
        alpha: size of the gradient step in FC; the fine-tune's learning rate.
    """
    fisher, delta = fisher_diagonal(reference, learned), parameter_difference(base, reference)
    terms = confidence_terms(base, [answer.sample for answer in own], fisher=fisher, delta=delta)
    order = terms.forgetting_confidence(alpha).argsort()[::-1]
    return [own[index] for index in order[: (len(own) + 1) // 2]]
