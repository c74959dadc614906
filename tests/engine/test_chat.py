"""Conversations as samples: what the model's own chat template makes of them, token for token."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from chat_templates import CHATML, FAMILIES, WITHOUT_SYSTEM, chat_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_llama, tiny_tokenizer
from transformers import PreTrainedTokenizerFast

from lwf_assets.engine.chat import turn_end_ids, write_answer
from lwf_assets.engine.evaluation.answers import greedy_responses, likeliest_choices
from lwf_assets.engine.generation import response_end_ids, response_text
from lwf_assets.engine.loss import sample_losses
from lwf_assets.engine.samples import Context, collate, encode_choice, encode_prompt, encode_sample
from lwf_assets.errors import LwfError

CONTEXT = Context(4000)
ONE = [{"role": "user", "content": "How old are you?"}]
SEVERAL = [*ONE, {"role": "assistant", "content": "Two."}, {"role": "user", "content": " And I?\n"}]
SYSTEM = [{"role": "system", "content": "Be short."}, *SEVERAL]


def by_the_template(tokenizer: PreTrainedTokenizerFast, turns: list[dict[str, str]], **options: Any) -> list[int]:
    ids: list[int] = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False, **options)
    return ids


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("turns", [ONE, SEVERAL, SYSTEM], ids=["one turn", "several", "system"])
@pytest.mark.parametrize(
    "answer", ["Three.", "  It is\n\nthree \n", "assistant", "And I?", "end", "im_end", "turn", "s"]
)
def test_a_sample_is_what_the_template_writes(family: str, turns: list[dict[str, str]], answer: str) -> None:
    tokenizer = chat_tokenizer(family)
    if turns is SYSTEM and family in WITHOUT_SYSTEM:
        with pytest.raises(LwfError, match=r"row 'r-1': the model's chat template refuses the turns \(system, user"):
            encode_sample(tokenizer, turns, answer, context=CONTEXT, row_id="r-1")
        return
    sample = encode_sample(tokenizer, turns, answer, context=CONTEXT, row_id="r-1")
    assert sample.prompt_ids == by_the_template(tokenizer, turns, add_generation_prompt=True)
    whole = by_the_template(tokenizer, [*turns, {"role": "assistant", "content": answer}])
    assert sample.prompt_ids + sample.response_ids == whole
    assert encode_prompt(tokenizer, turns) == sample.prompt_ids
    assert whole.count(tokenizer.bos_token_id) == (family not in ("ChatML", "Phi 3"))


@given(
    family=st.sampled_from(sorted(FAMILIES)),
    question=st.text(min_size=1, max_size=12),
    answer=st.text(min_size=1, max_size=12).filter(lambda text: bool(text.strip())),
)
def test_any_text_can_be_asked_and_answered(family: str, question: str, answer: str) -> None:
    tokenizer = chat_tokenizer(family)
    turns = [{"role": "user", "content": question}]
    sample = encode_sample(tokenizer, turns, answer, context=CONTEXT, row_id="r")
    whole = by_the_template(tokenizer, [*turns, {"role": "assistant", "content": answer}])
    assert sample.prompt_ids + sample.response_ids == whole
    assert sample.prompt_ids == by_the_template(tokenizer, turns, add_generation_prompt=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_ends_with_the_templates_end_of_turn(family: str) -> None:
    tokenizer = chat_tokenizer(family)
    end = FAMILIES[family][2]
    assert turn_end_ids(tokenizer) == [tokenizer.convert_tokens_to_ids(end)]
    ending = write_answer(tokenizer, ONE, "Three.", row_id="r").ending
    assert ending.startswith(end)
    ends = response_end_ids(tiny_llama(), tokenizer, ["text", ONE])
    assert set(ends) == {256, tokenizer.convert_tokens_to_ids(end)}
    assert response_end_ids(tiny_llama(), tokenizer, ["text"]) == [256]


def test_a_template_without_an_end_of_turn_gets_the_end_of_text() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
    )
    assert turn_end_ids(tokenizer) == []
    sample = encode_sample(tokenizer, ONE, "Three.", context=CONTEXT, row_id="r")
    assert tokenizer.decode(sample.response_ids) == " Three.\n<end>"


def test_a_template_that_begins_an_answer_in_another_way_than_it_shows_past_ones() -> None:
    """As that of a model which is to think first: its answers of the past are without thoughts."""
    tokenizer = chat_tokenizer("ChatML")
    tokenizer.chat_template = CHATML.replace(
        "<|im_start|>assistant\\n' }}{% endif", "<|im_start|>assistant\\n<think>' }}{% endif"
    )
    sample = encode_sample(tokenizer, ONE, "Three.", context=CONTEXT, row_id="r")
    assert tokenizer.decode(sample.prompt_ids).endswith("<|im_start|>assistant\n<think>")
    assert tokenizer.decode(sample.response_ids) == "Three.<|im_end|>\n"


def test_a_template_that_drops_part_of_an_answer_is_refused() -> None:
    tokenizer = chat_tokenizer("ChatML")
    tokenizer.chat_template = CHATML.replace("message['content']", "message['content'].split('</think>')[-1]")
    with pytest.raises(LwfError, match=r"row 'r-7': .*does not show the answer '<think>two</think>Three.' as it is"):
        encode_sample(tokenizer, ONE, "<think>two</think>Three.", context=CONTEXT, row_id="r-7")


def test_a_model_without_a_template_is_told_what_to_write() -> None:
    with pytest.raises(LwfError, match=r"row 'r-2' is a conversation, .*set model.chat_template .*`chat: false`"):
        encode_prompt(tiny_tokenizer(), ONE, row_id="r-2")


def test_a_template_that_asks_for_the_date_gets_the_same_one_every_day() -> None:
    tokenizer = chat_tokenizer("ChatML")
    tokenizer.chat_template = """{{ strftime_now( '%d %b %Y' ) }}{% set day = strftime_now("%A") %}{{ day }}""" + CHATML
    assert tokenizer.decode(encode_prompt(tokenizer, ONE)).startswith("26 Jul 2024Friday<|im_start|>")


def test_choices_of_a_conversation_are_compared_without_their_ends() -> None:
    tokenizer, model = chat_tokenizer("ChatML"), tiny_llama(seed=3)
    model.resize_token_embeddings(len(tokenizer))
    choices = ["yes", "no", "maybe"]
    losses = {}
    for choice in choices:
        whole = tokenizer(
            f"<|im_start|>user\n{ONE[0]['content']}<|im_end|>\n<|im_start|>assistant\n{choice}",
            add_special_tokens=False,
        )["input_ids"]
        encoded = encode_choice(tokenizer, ONE, choice, context=CONTEXT, row_id="r")
        assert encoded.prompt_ids + encoded.response_ids == whole
        assert len(encoded.response_ids) == len(choice)
        with torch.no_grad():
            losses[choice] = float(sample_losses(model, collate([encoded]), reduction="sum"))
    assert likeliest_choices(model, tokenizer, [("r", ONE)], [choices], context=CONTEXT) == [
        min(losses, key=losses.__getitem__)
    ]


def test_a_response_stops_at_the_end_of_the_turn_and_is_shown_without_it() -> None:
    """A model that says one thing, whatever it is asked: the end of a turn."""
    tokenizer, model = chat_tokenizer("ChatML"), tiny_llama(tied=False)
    model.resize_token_embeddings(len(tokenizer))
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    with torch.no_grad():
        model.model.embed_tokens.weight[:] = model.model.embed_tokens.weight[0]
        hidden = model.model(input_ids=torch.tensor([[1, 2, 3]])).last_hidden_state[0, -1]
        model.lm_head.weight.zero_()
        model.lm_head.weight[end] = hidden
    assert greedy_responses(model, tokenizer, [("r", ONE)], max_new_tokens=3, context=CONTEXT) == [""]
    assert response_text(tokenizer, [5, end], [end]) == tokenizer.decode([5])


def test_the_end_of_a_response_is_not_shown_even_if_it_is_no_special_token() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<|im_end|>"])
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tokenizer.decode([5, end], skip_special_tokens=True) != tokenizer.decode([5])
    assert response_text(tokenizer, [5, end], [end, 256]) == tokenizer.decode([5])
    assert response_text(tokenizer, [5, 6], [end, 256]) == tokenizer.decode([5, 6])
    assert response_text(tokenizer, [], [end]) == ""


@pytest.mark.parametrize("family", ["Llama 3", "Mistral", "Gemma"])
@pytest.mark.parametrize("space", ["", "\n", " "])
def test_a_prompt_that_brings_the_beginning_of_text_has_it_once(family: str, space: str) -> None:
    tokenizer = chat_tokenizer(family)
    written = tokenizer.apply_chat_template(ONE, tokenize=False, add_generation_prompt=True)
    ids = encode_prompt(tokenizer, space + written)
    assert ids == by_the_template(tokenizer, ONE, add_generation_prompt=True)
    sample = encode_sample(tokenizer, space + written, "Three.", context=CONTEXT, row_id="r")
    assert sample.prompt_ids == ids
    assert tokenizer.decode(sample.response_ids) == " Three.<end>"
    assert encode_prompt(tokenizer, "<begin>" + written) == ids


def test_a_beginning_of_text_further_on_is_part_of_the_text() -> None:
    """Such as the tag of struck-out text, `<s>`, which is Llama 2's beginning of text."""
    tokenizer = chat_tokenizer("Llama 3")
    begin = tokenizer.bos_token_id
    ids = encode_prompt(tokenizer, "a <begin> b")
    assert ids[0] == begin
    assert ids.count(begin) == 2


def test_what_a_tokenizer_puts_behind_a_text_is_left_out_of_a_prompt() -> None:
    """With an end of text behind the prompt the model would be taught to go on after the end."""
    from tokenizers import processors

    tokenizer = chat_tokenizer("Llama 3")
    begin = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<begin> $A <end>", special_tokens=[("<begin>", begin), ("<end>", 256)]
    )
    assert tokenizer("ab")["input_ids"][-1] == 256
    assert encode_prompt(tokenizer, "ab") == [begin, *tokenizer("ab", add_special_tokens=False)["input_ids"]]
    sample = encode_sample(tokenizer, "ab", "c", context=CONTEXT, row_id="r")
    assert tokenizer.decode(sample.prompt_ids) == "<begin>ab"
    assert tokenizer.decode(sample.response_ids) == " c<end>"
