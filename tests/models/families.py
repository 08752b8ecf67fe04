"""Small models' folders whose chat templates behave as those of well-known families do: tokenizer and template only.

The templates are written for these tests. Each byte is a token, and so is each control token of the family.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

_TURNS = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
)
_NO_THOUGHT = "<think>\\n\\n</think>\\n"
_QWEN3 = (
    _TURNS + "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '" + _NO_THOUGHT + "\\n' }}{%- endif %}"
    "{%- endif %}"
)
_SMOLLM3 = (
    "{%- if enable_thinking is not defined %}{%- set enable_thinking = true %}{%- endif %}"
    "{%- set today = strftime_now('%d %B %Y') %}"
    "{{- '<|im_start|>system\\nDate: ' + today + '\\nMode: ' + ('/think' if enable_thinking else '/no_think') }}"
    "{{- '<|im_end|>\\n' }}" + _TURNS + "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if not enable_thinking %}{{- '" + _NO_THOUGHT + "' }}{%- endif %}{%- endif %}"
)
_R1 = (
    "{{- bos_token }}{%- for message in messages %}{%- if message.role == 'assistant' %}"
    "{{- '<｜Assistant｜>' + message.content.split('</think>')[-1] + eos_token }}"
    "{%- else %}{{- '<｜User｜>' + message.content }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<｜Assistant｜><think>\\n' }}{%- endif %}"
)
_LLAMA32 = (
    "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    "{%- set date_string = strftime_now('%d %b %Y') %}"
    "{%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}{%- endif %}"
    "{{- bos_token + '<|start_header_id|>system<|end_header_id|>\\n\\nToday: ' + date_string + '\\n\\n<|eot_id|>' }}"
    "{%- for message in messages %}{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}"
    "{{- message.content | trim + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)
_GEMMA3 = (
    "{{ bos_token }}{%- if messages[0].role == 'system' %}{%- set first = messages[0].content + '\\n\\n' %}"
    "{%- set turns = messages[1:] %}{%- else %}{%- set first = '' %}{%- set turns = messages %}{%- endif %}"
    "{%- for message in turns %}{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{%- endif %}"
    "{{ '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' }}"
    "{{- (first if loop.first else '') + message.content | trim }}{{ '<end_of_turn>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{%- endif %}"
)
_PHI3 = (
    "{% for message in messages %}{{ '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
)
_MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'user' %}{{ '[INST] ' + message.content + '[/INST]' }}"
    "{% else %}{{ ' ' + message.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)
_PLAIN = (
    "{% for message in messages %}{{ message.role + ': ' + message.content + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
_GRANITE = (
    "{%- if thinking is not defined %}{%- set thinking = false %}{%- endif %}"
    "{{- '<|start_of_role|>system<|end_of_role|>Today is ' + strftime_now('%B %d, %Y') + '.' }}"
    "{%- if thinking %}{{- ' Write your thought first.' }}{%- endif %}{{- '<|end_of_text|>\\n' }}"
    "{%- for message in messages %}{{- '<|start_of_role|>' + message.role + '<|end_of_role|>' + message.content }}"
    "{{- '<|end_of_text|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_of_role|>assistant<|end_of_role|>' }}{%- endif %}"
)
_IM = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A family of models: its template, its control tokens, and what is true of its chats.

    `bos`: the token that the tokenizer puts before texts by itself. `unmarked` are added tokens that are not special,
    such as the tags of a thought. `end` is the token that ends a reply. `starts` counts the BOS tokens of a prompt.
    """

    name: str
    template: str
    control: tuple[str, ...]
    eos: str
    end: str
    bos: str | None = None
    unmarked: tuple[str, ...] = ()
    starts: int = 0
    dated: bool = False
    reads: tuple[str, ...] = ()
    named_ends: tuple[str, ...] = field(default=())
    """Further ends in generation_config.json."""


QWEN3 = Family(
    name="qwen3",
    template=_QWEN3,
    control=_IM,
    eos="<|im_end|>",
    end="<|im_end|>",
    unmarked=("<think>", "</think>"),
    reads=("enable_thinking",),
)
SMOLLM3 = Family(
    name="smollm3",
    template=_SMOLLM3,
    control=_IM,
    eos="<|im_end|>",
    end="<|im_end|>",
    unmarked=("<think>", "</think>"),
    dated=True,
    reads=("enable_thinking",),
)
R1 = Family(
    name="r1",
    template=_R1,
    control=("<｜User｜>", "<｜Assistant｜>", "<bos>", "<eos>"),
    eos="<eos>",
    end="<eos>",
    bos="<bos>",
    unmarked=("<think>", "</think>"),
    starts=1,
)
LLAMA32 = Family(
    name="llama32",
    template=_LLAMA32,
    control=("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"),
    eos="<|eot_id|>",
    end="<|eot_id|>",
    bos="<|begin_of_text|>",
    starts=1,
    dated=True,
    reads=("date_string",),
)
GEMMA3 = Family(
    name="gemma3",
    template=_GEMMA3,
    control=("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
    eos="<eos>",
    end="<end_of_turn>",
    bos="<bos>",
    starts=1,
)
PHI3 = Family(
    name="phi3",
    template=_PHI3,
    control=("<s>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|endoftext|>"),
    eos="<|endoftext|>",
    end="<|end|>",
    bos="<s>",
)
MISTRAL = Family(
    name="mistral",
    template=_MISTRAL,
    control=("<s>", "</s>", "[INST]", "[/INST]"),
    eos="</s>",
    end="</s>",
    bos="<s>",
    starts=1,
)
GRANITE = Family(
    name="granite",
    template=_GRANITE,
    control=("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"),
    eos="<|end_of_text|>",
    end="<|end_of_text|>",
    dated=True,
    reads=("thinking",),
)
PLAIN = Family(name="plain", template=_PLAIN, control=("<|endoftext|>",), eos="<|endoftext|>", end="<|endoftext|>")
ANSWERING = (QWEN3, SMOLLM3, LLAMA32, GEMMA3, PHI3, MISTRAL, GRANITE, PLAIN)
"""The families that answer at once with the default arguments."""
FAMILIES = (*ANSWERING, R1)


def write_tokenizer(family: Family, folder: Path, *, settings: Mapping[str, object] | None = None) -> Path:
    """The family's tokenizer files and template in `folder`, with an end configuration; no weights."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {text: at for at, text in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in family.control])
    tokenizer.add_tokens([AddedToken(token, special=False) for token in family.unmarked])
    if family.bos is not None:
        number = tokenizer.token_to_id(family.bos)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A", pair=f"{family.bos} $A {family.bos} $B", special_tokens=[(family.bos, number)]
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"eos_token": family.eos, **({"bos_token": family.bos} if family.bos else {})}
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **named}
    (folder / "tokenizer_config.json").write_text(json.dumps({**described, **(settings or {})}))
    (folder / "chat_template.jinja").write_text(family.template, encoding="utf-8")
    ends = [tokenizer.token_to_id(token) for token in (family.eos, *family.named_ends)]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    return folder
