"""Compares our probing with the reference implementation in one run: tokens through the model, and wall-clock time.

    python tests/bench/bench_probe.py [--questions 500] [--samples 10] [--reference-questions 50]

The reference implementation is that of the paper's own code: it copies the dataset once for each sample, with the full
prompt, and runs batches of 8 through transformers' `generate`. It is so slow that by default it runs on questions that
are evenly spread over the file, and its figures are scaled up. `--reference-questions 500` measures all of them.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from craft.core.prompts import DEFAULT_TEMPLATES, probe_messages
from craft.core.questions import OpenQuestion
from craft.core.shots import DEFAULT_OPEN_SHOTS
from craft_inference.embedded.engine import TransformersEngine
from craft_inference.engine import Prompt, Sampling

ROOT = Path(__file__).parents[2]
QUESTIONS = ROOT / "services" / "cli" / "craft_cli" / "data" / "open_ended.jsonl"
MODELS = Path(os.environ.get("CRAFT_MODELS_DIR") or ROOT / ".craft" / "models")
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
NEW_TOKENS = 50
REFERENCE_BATCH = 8
MIN_TOKEN_RATIO, MIN_TIME_RATIO = 5.0, 2.5


class ProbeCost(NamedTuple):
    """The tokens that ran through the model, without padding, and the seconds."""

    prompt_tokens: float
    generated_tokens: float
    seconds: float

    @property
    def tokens(self) -> float:
        return self.prompt_tokens + self.generated_tokens

    def times(self, factor: float) -> "ProbeCost":
        return ProbeCost(*(value * factor for value in self))


def demo_prompts(count: int) -> list[Prompt]:
    """`count` probe prompts from the demo's questions."""
    lines = QUESTIONS.read_text(encoding="utf-8").splitlines()[:count]
    if len(lines) < count:
        raise SystemExit(f"{QUESTIONS} has only {len(lines)} questions")
    rows = [json.loads(line) for line in lines]
    questions = [OpenQuestion(row["id"], row["question"], tuple(row["answers"])) for row in rows]
    return [Prompt(q.id, tuple(probe_messages(q, DEFAULT_OPEN_SHOTS, DEFAULT_TEMPLATES))) for q in questions]


def ours(folder: Path, prompts: Sequence[Prompt], samples: int) -> ProbeCost:
    engine = TransformersEngine.load(folder)
    sampling = Sampling(max_new_tokens=NEW_TOKENS, samples=samples, temperature=1.0, seed=42)
    engine.generate(prompts[:2], sampling)  # warm up
    usage = engine.generate(prompts, sampling).usage
    return ProbeCost(usage.prefilled_tokens, usage.generated_tokens, usage.seconds)


def reference(folder: Path, prompts: Sequence[Prompt], samples: int) -> ProbeCost:
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    torch.manual_seed(42)
    copies = [prompt for prompt in prompts for _ in range(samples)]
    chats = [[message._asdict() for message in prompt.messages] for prompt in copies]
    texts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
    prompt_tokens = generated_tokens = 0
    started = time.perf_counter()
    for at in range(0, len(texts), REFERENCE_BATCH):
        batch = tokenizer(texts[at : at + REFERENCE_BATCH], add_special_tokens=False, padding=True, return_tensors="pt")
        replies = model.generate(
            **batch, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=NEW_TOKENS
        )
        new = replies[:, batch["input_ids"].shape[1] :]
        ended = (new == tokenizer.eos_token_id).int().cumsum(dim=1)
        prompt_tokens += int(batch["attention_mask"].sum())
        generated_tokens += int((ended == 0).sum() + (ended.max(dim=1).values > 0).sum())
    return ProbeCost(prompt_tokens, generated_tokens, time.perf_counter() - started)


def show(name: str, measured: ProbeCost) -> None:
    rate = measured.generated_tokens / measured.seconds
    print(
        f"{name:<34}{measured.prompt_tokens:>14,.0f}{measured.generated_tokens:>12,.0f}{measured.tokens:>12,.0f}"
        f"{measured.seconds:>10,.1f}{rate:>10,.0f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--reference-questions", type=int, default=50)
    parser.add_argument("--model", type=Path, default=MODELS / MODEL)
    arguments = parser.parse_args()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call] # transformers leaves it so
    prompts = demo_prompts(arguments.questions)
    sampled = [prompts[n * len(prompts) // arguments.reference_questions] for n in range(arguments.reference_questions)]
    with torch.inference_mode():
        slow = reference(arguments.model, sampled, arguments.samples).times(len(prompts) / len(sampled))
    fast = ours(arguments.model, prompts, arguments.samples)
    threads = torch.get_num_threads()
    print(f"{arguments.questions} demo questions × {arguments.samples} samples, {threads} threads, bfloat16")
    print(f"{'':<34}{'prompt tokens':>14}{'generated':>12}{'all tokens':>12}{'seconds':>10}{'tokens/s':>10}")
    scaled = "" if len(sampled) == len(prompts) else f", {len(sampled)} questions scaled"
    show(f"reference{scaled}", slow)
    show("ours", fast)
    token_ratio, time_ratio = slow.tokens / fast.tokens, slow.seconds / fast.seconds
    print(f"{token_ratio:.1f} times fewer tokens (at least {MIN_TOKEN_RATIO:.0f} wanted)")
    print(f"{time_ratio:.1f} times faster (at least {MIN_TIME_RATIO} wanted)")
    return 0 if token_ratio >= MIN_TOKEN_RATIO and time_ratio >= MIN_TIME_RATIO else 1


if __name__ == "__main__":
    raise SystemExit(main())
