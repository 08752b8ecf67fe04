"""The usage section of an adapter's card: the text of the prompt, and code that fills it in."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from craft.contracts.spec.chats import ChatFormat
from craft.contracts.stages.parameters import PackageParameters
from craft.core.prompts import PromptMode, PromptTemplates, answer_template, templates_from
from craft.core.questions import Task

_LOAD = """\
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

base = AutoModelForCausalLM.from_pretrained({model!r}, revision={revision!r}, dtype=torch.{dtype})
# The evaluation's settings, in place of those in the base model's generation_config.json.
base.generation_config = GenerationConfig({settings})
model = PeftModel.from_pretrained(base, "adapter").eval()
tokenizer = AutoTokenizer.from_pretrained("adapter")

PROMPT = {prompt!r}


def filled(template, values):
    return re.sub(r"{{([a-z_]+)}}", lambda found: values.get(found[1], found[0]), template)

"""
_OPEN = """\

def prompt(question, topic={topic!r}):
    return filled(PROMPT, {{"question": question, "topic": topic.replace("_", " ")}})

"""
_CHOICE = """\

def prompt(question, options, topic={topic!r}):
    letters = string.ascii_uppercase[: len(options)]
    lines = [filled({option!r}, {{"letter": letter, "option": text}}) for letter, text in zip(letters, options)]
    first, last = ", ".join(letters[:-1]), {or_word!r} + " " + letters[-1]
    comma = "," if len(options) > 2 else ""
    values = {{"letters": f"{{first}} {{last}}", "letters_comma": f"{{first}}{{comma}} {{last}}"}}
    values |= {{"question": question, "topic": topic.replace("_", " "), "options": "\\n".join(lines)}}
    return filled(PROMPT, values)

"""
_ASK = """\

def ask(*asked):
    chat = [{{"role": "user", "content": prompt(*asked)}}]
    inputs = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, {arguments}return_dict=True, return_tensors="pt"
    )
    tokens, mask = inputs["input_ids"], inputs["attention_mask"]
    new = model.generate(input_ids=tokens, attention_mask=mask)[0, tokens.shape[1] :]
    return tokenizer.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()


print(ask({example}))"""
_EXAMPLES = {
    Task.OPEN_ENDED: '"What is the capital of France?"',
    Task.MULTIPLE_CHOICE: '"What is the capital of France?", ["Paris", "Rome"]',
}


def usage(parameters: PackageParameters, *, generation: Mapping[str, Any], refuses: bool) -> list[str]:
    """The section's lines, with `generation`, the evaluation's settings, in the code.

    `refuses`: the refusal was taught, and only then the card names it.
    """
    templates = templates_from(parameters.prompts.templates)
    prompt = answer_template(parameters.task, PromptMode.REFUSE, templates)
    fence = "`" * (max([2, *map(len, re.findall("`+", prompt))]) + 1)
    form = parameters.model.chat
    taught = [f"What it was taught to reply where it does not know is `{templates.refusal}`"] if refuses else []
    return [
        "Ask it with the prompt that it was trained and evaluated with (REFUSE), as the user's one message; asked "
        "otherwise, the results below say nothing. Its text, in which the code fills what stands in braces:",
        "",
        f"{fence}text",
        prompt,
        fence,
        "",
        *taught,
        *[""] * len(taught),
        *_form_of(form),
        "With the archive unpacked in the working directory, transformers 4.56 or newer and PEFT 0.15 or newer:",
        "",
        f"{fence}python",
        *_code(parameters, prompt, templates, generation),
        fence,
    ]


def _form_of(form: ChatFormat) -> list[str]:
    """The lines about arguments and date of the chat template, which servers that load the adapter do not know."""
    lines: list[str] = []
    if form.arguments:
        told = ", ".join(f"`{name}={json.dumps(value)}`" for name, value in form.arguments.items())
        lines += [
            f"The chat template was given {told}. A server needs the same, in vLLM as `chat_template_kwargs` of a "
            "request or `--default-chat-template-kwargs`.",
            "",
        ]
    if form.date is not None:
        lines += [
            "The base model's chat template writes the current date. All results were obtained with "
            f"{form.date}, which the adapter's `chat_template.jinja` keeps. A server that renders chats with the base "
            "model's own files writes another date each day: start it with this file (`--chat-template` in vLLM).",
            "",
        ]
    if form.template is not None:
        lines += [
            "The chat template is not the base model's: it is the adapter's own `chat_template.jinja`, which a server "
            "must be given (`--chat-template` in vLLM).",
            "",
        ]
    return lines


def _code(
    parameters: PackageParameters, prompt: str, templates: PromptTemplates, generation: Mapping[str, Any]
) -> Sequence[str]:
    is_choice = parameters.task is Task.MULTIPLE_CHOICE
    parts = ("import re\n" + "import string\n" * is_choice + "\n", _LOAD, _CHOICE if is_choice else _OPEN, _ASK)
    code = parts[0] + "".join(parts[1:]).format(
        model=parameters.model.id,
        revision=parameters.model.revision,
        dtype=parameters.trainer.dtype,
        settings=", ".join(f"{name}={value!r}" for name, value in generation.items()),
        prompt=prompt,
        topic=templates.default_topic,
        option=templates.choice_option,
        or_word=templates.or_word,
        arguments="".join(f"{name}={value!r}, " for name, value in parameters.model.chat.arguments.items()),
        example=_EXAMPLES[parameters.task],
    )
    return code.split("\n")
