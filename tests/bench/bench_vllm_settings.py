"""Measures the effect of vLLM's settings on a probe on CPU: generated tokens per second, one changed setting at a time.

`make bench-vllm-settings [ARGS=QUESTIONS]`: "as set" comes first and last; the difference of the two is the noise.
"""

import argparse
import json
import tempfile
from pathlib import Path

from tests.bench.bench_vllm import MODELS, demo_prompts, timed
from tests.vllm.conftest import SMOLLM, running


def _words(*words: str) -> dict[str, str]:
    return {"VLLM__EXTRA_ARGUMENTS": json.dumps(words)}


_CHANGES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("as set", "bfloat16", {}),
    ("one thread", "bfloat16", {"VLLM__CPU_THREADS": "0"}),
    ("threads not bound", "bfloat16", {"VLLM__CPU_THREADS": "nobind"}),
    ("KV block of 16 tokens", "bfloat16", {"VLLM__BLOCK_SIZE": "16"}),
    ("KV block of 64 tokens", "bfloat16", {"VLLM__BLOCK_SIZE": "64"}),
    ("KV block of 128 tokens (vLLM's own)", "bfloat16", {"VLLM__BLOCK_SIZE": "128"}),
    ("no prefix cache", "bfloat16", _words("--no-enable-prefix-caching")),
    (
        "128 sequences, 2,048 tokens (vLLM's own)",
        "bfloat16",
        {"VLLM__MAX_NUM_SEQS": "128", "VLLM__MAX_NUM_BATCHED_TOKENS": "2048"},
    ),
    ("512 sequences, 8,192 tokens", "bfloat16", {"VLLM__MAX_NUM_SEQS": "512", "VLLM__MAX_NUM_BATCHED_TOKENS": "8192"}),
    ("not compiled", "bfloat16", {"VLLM__ENFORCE_EAGER": "true"}),
    ("float32", "float32", {}),
    ("head in float32", "bfloat16", _words("--hf-overrides", '{"head_dtype": "float32"}')),
    ("no asynchronous scheduling", "bfloat16", _words("--no-async-scheduling")),
    ("as set, again", "bfloat16", {}),
)


def main() -> None:
    """Print a row for each setting."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("questions", nargs="?", type=int, default=100)
    prompts = demo_prompts(arguments.parse_args().questions)
    print("| changed | tokens/s | of as set |\n| --- | --- | --- |", flush=True)
    usual = 0.0
    for name, dtype, settings in _CHANGES:
        with tempfile.TemporaryDirectory() as folder:
            try:
                with running(Path(folder), MODELS, **{"VLLM__ENFORCE_EAGER": "false"} | settings) as rig:
                    tokens, seconds = timed(rig.engine(SMOLLM, dtype), prompts)
            except Exception as error:  # a setting that ends the server is a row too
                print(f"| {name} | {type(error).__name__}: {str(error)[:200]} | |", flush=True)
                continue
        usual = usual or tokens / seconds
        print(f"| {name} | {tokens / seconds:.1f} | {tokens / seconds / usual:.2f} |", flush=True)


if __name__ == "__main__":
    main()
