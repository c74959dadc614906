"""Learning With Forgetting in a Hugging Face Trainer of one's own.

    .venv/bin/python -m examples.own_trainer          # the embedded 135M model: some minutes on two cores
    .venv/bin/python -m examples.own_trainer --model HUB_ID_OR_DIRECTORY --learn mine.jsonl --forget questions.jsonl

A line of `--learn` holds `prompt` and `answer`; a line of `--forget` holds `prompt` alone, because the model answers it
itself, through its chat template if it has one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from examples.forget_set import DATA, conflicting_half, embedded_model, load_model, load_tokenizer, own_answers, texts
from lwf_assets import PeriodicUnlearning
from lwf_assets.engine.precision import use_bfloat16
from lwf_assets.engine.samples import Context, collate, encode_sample


def main(
    model: Annotated[str, typer.Option(help="A directory or hub id; without it, the embedded 135M model.")] = "",
    learn: Annotated[Path, typer.Option(help="What to learn: JSONL of prompt and answer.")] = DATA / "tickets.jsonl",
    forget: Annotated[Path, typer.Option(help="What to forget: JSONL of prompts.")] = DATA / "questions.jsonl",
    out: Annotated[Path, typer.Option(help="Where the models go.")] = Path("build/own-trainer"),
    steps: int = 30,
    learning_rate: float = 4e-5,
    interval: Annotated[int, typer.Option(help="Learning steps between two unlearning steps.")] = 5,
    forgetting_rate: float = 2e-5,
    cap: Annotated[float, typer.Option(help="NLL per token at which an answer counts as forgotten.")] = 4.0,
    score: Annotated[bool, typer.Option(help="Forget the half with the highest forgetting confidence; or all.")] = True,
) -> PeriodicUnlearning:
    """Fine-tune a model on --learn while it forgets what it says to --forget."""
    model = model or embedded_model()
    base, tokenizer = load_model(model), load_tokenizer(model)

    # D_L: what is learned.
    context = Context.of_model(base, max_length=None, truncate_prompts=False)
    learned = [
        encode_sample(tokenizer, prompt, answer, context=context, row_id=name)
        for name, prompt, answer in texts(learn, "prompt", "answer")
    ]

    # D_self: what the model says by itself.
    own = own_answers(base, tokenizer, forget)

    def fine_tune(learner: PreTrainedModel, folder: Path, *callbacks: TrainerCallback) -> None:
        """An ordinary fine-tune: nothing in here knows of forgetting."""
        arguments = TrainingArguments(
            output_dir=str(folder),
            max_steps=steps,
            per_device_train_batch_size=8,
            learning_rate=learning_rate,
            bf16=use_bfloat16("auto", learner.device),
            use_cpu=learner.device.type == "cpu",
            save_strategy="no",
            report_to="none",
            remove_unused_columns=False,
        )
        trainer = Trainer(
            model=learner,
            args=arguments,
            train_dataset=learned,
            data_collator=lambda samples: vars(collate(samples, pad_id=tokenizer.pad_token_id)).copy(),
            callbacks=list(callbacks),
        )
        trainer.train()
        trainer.save_model()

    # D_U: the half of D_self that conflicts most with D_L, which only a fine-tune without forgetting can tell.
    if score:
        fine_tune(load_model(model), out / "reference")
        own = conflicting_half(own, base, load_model(out / "reference"), learned, alpha=learning_rate)

    unlearning = PeriodicUnlearning(
        [answer.sample for answer in own],
        sample_ids=[answer.id for answer in own],
        interval=interval,
        forgetting_rate=forgetting_rate,
        batch_size=4,
        per_sample_cap=cap,
    )
    fine_tune(base, out / "forgotten", unlearning)
    tokenizer.save_pretrained(out / "forgotten")

    table = Table("prompt", "the model's own answer", "turns", "NLL before", "NLL after")
    for answer in own:
        if turns := [entry for entry in unlearning.ledger if entry.sample_id == answer.id]:
            nll = (f"{turns[0].nll_before:.2f}", f"{turns[-1].nll_after:.2f}")
            table.add_row(escape(answer.prompt), escape(answer.response.strip()), str(len(turns)), *nll)
    Console().print(table)
    return unlearning


if __name__ == "__main__":
    typer.run(main)
