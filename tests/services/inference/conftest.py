"""Tiny random models of every architecture that the fast decoder supports, and a byte tokenizer with ChatML."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.fetched_models import MODELS
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from craft.core.prompts import ModelMessage
from craft_inference.embedded.engine import TransformersEngine
from craft_inference.engine import LetterPrompt, Prompt

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONTEXT_LENGTH = 512
SHOTS = (ModelMessage("user", "Question: how many legs?"), ModelMessage("assistant", "8"))
MODEL_TYPES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "SmolLM3ForCausalLM": "smollm3",
}


def byte_tokenizer() -> Any:
    """Three special tokens, then one token for each byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    core = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(special + alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call] # transformers leaves it so
        tokenizer_object=core,
        eos_token=AddedToken(special[2], special=True),
        pad_token=AddedToken(special[0], special=True),
        additional_special_tokens=[AddedToken(special[1], special=True)],
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def write_model(folder: Path, architecture: str, **changes: Any) -> Path:
    """Write a model with random weights, grouped-query attention and a vocabulary that is no power of two."""
    torch.manual_seed(7)
    settings: dict[str, Any] = {
        "architectures": [architecture],
        "vocab_size": 262,
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": CONTEXT_LENGTH,
        "initializer_range": 0.35,  # the usual 0.02 would leave every token as likely as the next
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "sliding_window": None,
    }
    config = AutoConfig.for_model(MODEL_TYPES[architecture], **(settings | changes))
    factory: Any = AutoModelForCausalLM
    factory.from_config(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def plain_engine(folder: Path, *, rows: int = 320) -> TransformersEngine:
    """The same model with its own forward pass."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    return TransformersEngine(model, byte_tokenizer(), rows=rows, plain=True)


def fast_engine(folder: Path, *, rows: int = 320) -> TransformersEngine:
    """The model as the service loads it, in float32 so that replies can be equal."""
    return TransformersEngine.load(folder, dtype="float32", rows=rows)


def prompts(*questions: str) -> list[Prompt]:
    """Chats that share a shot and the opening words of the question."""
    return [Prompt(f"q{n}", (*SHOTS, ModelMessage("user", f"Question: {text}"))) for n, text in enumerate(questions)]


def letter_prompts(*questions: str, letters: str = "ABC") -> list[LetterPrompt]:
    """The same chats, with a letter as the answer."""
    return [LetterPrompt(prompt.id, prompt.messages, tuple(letters)) for prompt in prompts(*questions)]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread: with tiny models, threads only wait for one another, longer on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder of a tiny model of an architecture, made once."""
    made: dict[str, Path] = {}

    def folder(architecture: str) -> Path:
        if architecture not in made:
            made[architecture] = write_model(tmp_path_factory.mktemp(architecture), architecture)
        return made[architecture]

    return folder


@pytest.fixture(scope="session")
def llama(model_folder: Callable[[str], Path]) -> Path:
    return model_folder("LlamaForCausalLM")


@pytest.fixture(scope="session")
def smollm2() -> Path:
    folder = MODELS / "HuggingFaceTB" / "SmolLM2-135M-Instruct"
    if not folder.is_dir():
        pytest.fail(f"{folder} is missing: `craft models fetch` makes it")
    return folder
