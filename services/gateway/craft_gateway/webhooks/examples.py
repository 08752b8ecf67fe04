"""Examples of webhooks in the OpenAPI document."""

from typing import Any

WEBHOOK_EXAMPLES: dict[str, Any] = {
    "ends": {
        "summary": "Ends of jobs",
        "value": {
            "url": "https://hooks.example.com/craft",
            "types": ["job.succeeded", "job.failed", "job.cancelled"],
            "name": "pager",
        },
    },
    "everything": {"summary": "Every event", "value": {"url": "https://hooks.example.com/all", "types": ["*"]}},
}
WEBHOOK_CHANGES: dict[str, Any] = {
    "off": {"summary": "Send nothing for now", "value": {"active": False}},
    "types": {"summary": "Other events", "value": {"types": ["job.*", "adapter.*"]}},
}
