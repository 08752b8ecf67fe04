"""Measures generated tokens per second of the service, of vLLM's own offline `LLM.chat`, and of transformers.

`make bench-vllm [QUESTIONS]` runs the same questions, samples and settings, one after the other.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

from tests.vllm.conftest import SMOLLM, VLLM_PYTHON, running

from craft.core.prompts import DEFAULT_TEMPLATES, probe_messages
from craft.core.questions import Task
from craft.core.rows.reader import question_from_row
from craft.core.shots import DEFAULT_OPEN_SHOTS
from craft_inference.embedded.engine import TransformersEngine
from craft_inference.engine import Engine, Prompt, Sampling

MODELS = Path(os.environ.get("CRAFT_MODELS_DIR", ".craft/models")).absolute()
SAMPLING = Sampling(max_new_tokens=16, samples=10, temperature=0.7, seed=42)
WARM_UP = 16

# vLLM's interpreter runs this, with the environment and the options of our server.
_OFFLINE = """
import json, sys, time
from vllm import LLM, SamplingParams

def main():
    request = json.load(open(sys.argv[1]))
    llm = LLM(**request["options"])
    parameters = SamplingParams(**request["sampling"])
    llm.chat(request["messages"][:request["warm_up"]], parameters, use_tqdm=False)
    started = time.monotonic()
    replies = llm.chat(request["messages"], parameters, use_tqdm=False)
    seconds = time.monotonic() - started
    tokens = sum(len(sample.token_ids) for reply in replies for sample in reply.outputs)
    json.dump({"tokens": tokens, "seconds": seconds}, open(sys.argv[2], "w"))

if __name__ == "__main__":
    main()
"""


def main() -> None:
    """Print a row for each of the three, and two ratios."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("questions", nargs="?", type=int, default=500)
    count = arguments.parse_args().questions
    prompts = demo_prompts(count)
    rates: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, measure in (("service", _service), ("offline", _offline), ("transformers", _transformers)):
            tokens, seconds = measure(prompts, Path(folder))
            rates[name] = tokens / seconds
            print(f"{name:14} {tokens:8,} tokens {seconds:7.1f} s {rates[name]:8.1f} tokens/s", flush=True)
    print(f"service / offline vLLM:        {rates['service'] / rates['offline']:.3f} (at least 0.95 is wanted)")
    print(f"service / transformers engine: {rates['service'] / rates['transformers']:.3f}")


def demo_prompts(count: int) -> list[Prompt]:
    path = files("craft_cli") / "data" / "open_ended.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    questions = [question_from_row(json.loads(line), task=Task.OPEN_ENDED) for line in lines[:: len(lines) // count]]
    return [
        Prompt(question.id, tuple(probe_messages(question, shots=DEFAULT_OPEN_SHOTS, templates=DEFAULT_TEMPLATES)))
        for question in questions[:count]
    ]


def timed(engine: Engine, prompts: list[Prompt]) -> tuple[int, float]:
    engine.generate(prompts[:WARM_UP], SAMPLING)
    started = time.monotonic()
    tokens = engine.generate(prompts, SAMPLING).usage.generated_tokens
    return tokens, time.monotonic() - started


def _service(prompts: list[Prompt], folder: Path) -> tuple[int, float]:
    with running(folder / "service", MODELS, VLLM__ENFORCE_EAGER="false") as rig:
        return timed(rig.engine(), prompts)


def _transformers(prompts: list[Prompt], folder: Path) -> tuple[int, float]:
    del folder
    return timed(TransformersEngine.load(MODELS / SMOLLM), prompts)


def _offline(prompts: list[Prompt], folder: Path) -> tuple[int, float]:
    request: dict[str, Any] = {
        "messages": [[message._asdict() for message in prompt.messages] for prompt in prompts],
        "warm_up": WARM_UP,
        "options": {
            "model": SMOLLM,
            "dtype": "bfloat16",
            "max_model_len": 2048,
            "block_size": 32,
            "generation_config": "vllm",
            "enable_chunked_prefill": False,
            "disable_log_stats": True,
        },
        "sampling": {
            "n": SAMPLING.samples,
            "temperature": SAMPLING.temperature,
            "max_tokens": SAMPLING.max_new_tokens,
            "seed": SAMPLING.seed,
        },
    }
    (folder / "request.json").write_text(json.dumps(request))
    (folder / "offline.py").write_text(_OFFLINE)
    own = {
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{(os.cpu_count() or 1) - 1}",
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    with (folder / "offline.log").open("wb") as log:
        ended = subprocess.run(
            [str(VLLM_PYTHON), str(folder / "offline.py"), str(folder / "request.json"), str(folder / "result.json")],
            cwd=MODELS,
            env=os.environ | own,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if ended.returncode:
        sys.exit((folder / "offline.log").read_text(errors="replace")[-3000:])
    result = json.loads((folder / "result.json").read_text())
    return int(result["tokens"]), float(result["seconds"])


if __name__ == "__main__":
    main()
