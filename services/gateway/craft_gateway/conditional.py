"""Conditional requests (RFC 9110, 13): callers ask again and again, and hear what they have not got yet."""

from collections.abc import Mapping

from craft.infra.http_openapi import OpenApiResponses

UNCHANGED: OpenApiResponses = {304: {"description": "`If-None-Match` names the current representation."}}
RETRY_AFTER_SECONDS = "2"
"""How soon to ask about a job again."""


def etag_of(digest: str) -> str:
    """A strong entity tag."""
    return f'"{digest}"'


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether the caller has this representation already (RFC 9110, 13.1.2: compared weakly)."""
    if if_none_match is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in tags or "*" in tags


def cached(etag: str) -> Mapping[str, str]:
    """Headers of a representation that may be kept and must be asked about."""
    return {"ETag": etag, "Cache-Control": "private, no-cache"}
