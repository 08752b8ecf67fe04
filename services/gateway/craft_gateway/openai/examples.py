"""Examples of OpenAI's calls in the OpenAPI document."""

from typing import Any

_ADAPTER = "adpt_01jgywz3x4v5q6r7s8t9vawbxc"
CHAT_EXAMPLES: dict[str, Any] = {
    "greedy": {
        "summary": "One short reply",
        "value": {
            "model": _ADAPTER,
            "messages": [{"role": "user", "content": "Who wrote the Voynich manuscript?"}],
            "max_completion_tokens": 64,
            "temperature": 0.0,
        },
    },
    "streamed": {
        "summary": "Token by token, with the count of tokens at the end",
        "value": {
            "model": _ADAPTER,
            "messages": [
                {"role": "system", "content": "Answer in one word."},
                {"role": "user", "content": [{"type": "text", "text": "What is the capital of Kenya?"}]},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
            "stop": ["\n"],
            "seed": 7,
        },
    },
}
TUNING_EXAMPLES: dict[str, Any] = {
    "file": {
        "summary": "An uploaded file, and the method's own settings",
        "value": {
            "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
            "training_file": "file-01jgywz3x4v5q6r7s8t9vawbxc",
            "suffix": "support-qa",
        },
    },
    "settings": {
        "summary": "Hyperparameters, a validation file, and settings that OpenAI does not have",
        "value": {
            "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
            "training_file": "file-01jgywz3x4v5q6r7s8t9vawbxc",
            "validation_file": "file-01jgywz3x4v5q6r7s8t9vawbxd",
            "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": 16}}},
            "seed": 7,
            "metadata": {"ticket": "ML-412"},
            "craft": {"selection": {"tau": 0.5}},
        },
    },
}
CHAT_COMPLETION: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1738315800,
    "model": _ADAPTER,
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Sorry, I don't know."},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 38, "completion_tokens": 7, "total_tokens": 45},
}
