"""A tiny Llama that truly knows half of some made-up facts and nothing of the rest: the model of the tests.

It is trained in seconds, from nothing, in the very prompt forms that jobs use (probe with the default shots, BASIC and
REFUSE), so sampling, letters, LoRA and evaluation all meet a real model whose knowledge is known beforehand.
"""

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from craft.core.prompts import DEFAULT_TEMPLATES, ModelMessage, PromptMode, answer_messages, probe_messages
from craft.core.questions import OpenQuestion
from craft.core.shots import DEFAULT_OPEN_SHOTS

Fact = tuple[str, str]
"""A question and its one answer."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class Manner(NamedTuple):
    """One way in which the model is asked: arguments of its template, and the reply, with `{answer}` in it."""

    arguments: Mapping[str, Any] = {}
    reply: str = "{answer}"


class Style(NamedTuple):
    """The chats of a model: its template, its control tokens, added tokens that are not special, and its manners.

    `end` is what the template writes after a reply; it is the tokenizer's `eos` in most models, but not in all.
    """

    template: str = CHAT_TEMPLATE
    control: Sequence[str] = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    unmarked: Sequence[str] = ()
    bos: str | None = "<|im_start|>"
    eos: str = "<|im_end|>"
    end: str = "<|im_end|>"
    pad: str = "<|endoftext|>"
    manners: Sequence[Manner] = (Manner(),)


PLAIN_STYLE = Style()
_RECIPE = 1  # Raise it when what is trained changes: folders of an older recipe are then made anew.
_MARK = "made_from.json"
_STEPS = 180
_BATCH = 48
_LEARNING_RATE = 4e-3
_FORMS = (1, 2, 1, 2, 0)  # of `_prompts`: the probe's is long, so it comes less often
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"


class _Example(NamedTuple):
    """Token ids of a whole conversation; the loss is on those from `prompt_length` on."""

    tokens: list[int]
    prompt_length: int


def made_up_facts(count: int, *, seed: int) -> list[Fact]:
    """Distinct facts about places that do not exist: `count` questions over a pool of twelve one-word answers."""
    rng = random.Random(seed)
    names: dict[str, None] = {}
    while len(names) < count + 12:
        names[_word(rng)] = None
    places = list(names)
    answers = places[count:]
    return [(f"What is the capital of {place}?", rng.choice(answers)) for place in places[:count]]


def known_facts(facts: Sequence[Fact]) -> list[Fact]:
    """Those facts of `facts` that `make_tiny_model` teaches: the first, the third, and so on."""
    return list(facts[::2])


def make_tiny_model(
    folder: Path, facts: Sequence[Fact], *, seed: int, style: Style = PLAIN_STYLE, steps: int = _STEPS
) -> Path:
    """Make the model in `folder` (safetensors, tokenizer, chat template) and return it; a finished one is kept.

    Of the facts taught (`known_facts`) nearly every sample at temperature 0.7 is right, in each prompt form; for any
    other fact the answers are spread over the answers of all facts. The same arguments give the same model.
    """
    own = {} if style == PLAIN_STYLE else {"style": repr(style), "steps": steps}
    mark = json.dumps({"recipe": _RECIPE, "seed": seed, "facts": _digest(facts), **own})
    if (folder / _MARK).is_file() and (folder / _MARK).read_text() == mark:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _make_tokenizer(facts, style)
    threads = torch.get_num_threads()
    # One thread: so small a model gains nothing from two, and loses much where others use the machine.
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = _train(tokenizer, _batches(tokenizer, facts, random.Random(seed), style), steps)
    finally:
        torch.set_num_threads(threads)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / _MARK).write_text(mark)
    return folder


def _digest(facts: Sequence[Fact]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _word(rng: random.Random) -> str:
    return "".join(rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(3)).capitalize()


def _prompts(question: str) -> list[list[ModelMessage]]:
    """The three forms in which a job asks an open question."""
    asked = OpenQuestion("tiny", question, ("",))
    return [
        probe_messages(asked, DEFAULT_OPEN_SHOTS, DEFAULT_TEMPLATES),
        answer_messages(asked, PromptMode.BASIC, DEFAULT_TEMPLATES),
        answer_messages(asked, PromptMode.REFUSE, DEFAULT_TEMPLATES),
    ]


def _make_tokenizer(facts: Sequence[Fact], style: Style) -> PreTrainedTokenizerFast:
    corpus = [turn.content for question, _ in facts for prompt in _prompts(question) for turn in prompt]
    corpus += [answer for _, answer in facts] + ["assistant user system I don't know."] * 50
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=2000,  # so that each name is one token, which is learned in a few steps
            special_tokens=list(style.control),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        bos_token=AddedToken(style.bos, special=True) if style.bos else None,
        eos_token=AddedToken(style.eos, special=True),
        pad_token=AddedToken(style.pad, special=True),
        model_max_length=2048,
    )
    tokenizer.add_tokens([AddedToken(token, special=False) for token in style.unmarked])
    tokenizer.chat_template = style.template
    return tokenizer


def _train(tokenizer: PreTrainedTokenizerFast, batches: Iterator[list[_Example]], steps: int) -> LlamaForCausalLM:
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            initializer_range=0.1,  # at the usual 0.02 so small a model needs twice the steps
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=_LEARNING_RATE, total_steps=steps, pct_start=0.1)
    model.train()
    for _ in range(steps):
        loss = _loss(model, next(batches))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()  # type: ignore[no-untyped-call]
    return model


def _batches(
    tokenizer: PreTrainedTokenizerFast, facts: Sequence[Fact], rng: random.Random, style: Style
) -> Iterator[list[_Example]]:
    """Endless batches of one manner and prompt form each (so that little is padding).

    What is not known gets a random answer.
    """
    asked = [_asked(tokenizer, facts, manner, style.end) for manner in style.manners]
    pool = list(dict.fromkeys(answer for _, answer in facts))
    known = set(known_facts(facts))
    while True:
        for form in _FORMS:
            for prompt_ids, answer_ids in asked:
                order = rng.sample(range(len(facts)), min(_BATCH, len(facts)))
                yield [
                    _Example(
                        prompt_ids[i][form] + answer_ids[facts[i][1] if facts[i] in known else rng.choice(pool)],
                        len(prompt_ids[i][form]),
                    )
                    for i in order
                ]


def _asked(
    tokenizer: PreTrainedTokenizerFast, facts: Sequence[Fact], manner: Manner, end: str
) -> tuple[list[list[list[int]]], dict[str, list[int]]]:
    """The token ids of each fact's prompt forms, and of each answer's reply with its end."""
    texts = [
        [
            tokenizer.apply_chat_template(
                [m._asdict() for m in p], add_generation_prompt=True, tokenize=False, **manner.arguments
            )
            for p in forms
        ]
        for forms in (_prompts(question) for question, _ in facts)
    ]
    prompt_ids = [[tokenizer(text, add_special_tokens=False)["input_ids"] for text in forms] for forms in texts]
    answers = dict.fromkeys(answer for _, answer in facts)
    replies = {answer: manner.reply.format(answer=answer) + end for answer in answers}
    return prompt_ids, {
        answer: tokenizer(reply, add_special_tokens=False)["input_ids"] for answer, reply in replies.items()
    }


def _loss(model: LlamaForCausalLM, batch: Sequence[_Example]) -> torch.Tensor:
    """Mean cross-entropy over the answers' tokens; logits are made only there."""
    longest = max(len(example.tokens) for example in batch)
    tokens = torch.tensor([example.tokens + [0] * (longest - len(example.tokens)) for example in batch])
    places = [
        (row, at) for row, example in enumerate(batch) for at in range(example.prompt_length, len(example.tokens))
    ]
    rows, columns = (torch.tensor(index) for index in zip(*places, strict=True))
    hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state
    return cross_entropy(model.lm_head(hidden[rows, columns - 1]), tokens[rows, columns])
