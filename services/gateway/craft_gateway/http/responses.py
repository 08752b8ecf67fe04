"""Responses: the paths of the API, entity tags, and downloads with ranges."""

import os
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from craft.errors import NotFound, RangeNotSatisfiable
from craft.infra.http.openapi import OpenApiResponses

ROOT = "/craft"
OPENAI_ROOT = "/v1"
UNCHANGED: OpenApiResponses = {304: {"description": "`If-None-Match` names the current representation."}}
RETRY_AFTER_SECONDS = "2"
"""A client asks about a job again after so many seconds."""


def etag_of(digest: str) -> str:
    """Return a strong entity tag."""
    return f'"{digest}"'


def matches(if_none_match: str | None, etag: str) -> bool:
    """Return whether the caller already has this representation (RFC 9110, 13.1.2: weak comparison)."""
    if if_none_match is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in tags or "*" in tags


def cached(etag: str) -> Mapping[str, str]:
    """Return headers of a representation that the caller may store and must revalidate before each use."""
    return {"ETag": etag, "Cache-Control": "private, no-cache"}


_ONE_RANGE = re.compile(r"\s*bytes\s*=\s*(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))\s*", re.IGNORECASE | re.ASCII)
_PIECE_BYTES = 2**16


class Download(StreamingResponse):
    """Streams a part of an open file, and closes the file however the response ends.

    A caller may disconnect before the first byte.
    """

    def __init__(
        self, file: BinaryIO, part: range, *, status: int, media_type: str, headers: Mapping[str, str]
    ) -> None:
        super().__init__(_pieces(file, part), status_code=status, media_type=media_type, headers=headers)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()


def download(
    path: Path,
    *,
    name: str,
    media_type: str,
    headers: Mapping[str, str],
    range_header: str | None,
    if_range: str | None,
) -> Download:
    """Send the file as `name`, or the part of it that `range_header` requests.

    `if_range` is the header `If-Range`: an entity tag other than that of `headers` requests the whole file. Raises
    RangeNotSatisfiable where the file has no such part, NotFound where the file was removed.
    """
    try:
        # Opened before the answer begins: the garbage collector may remove the file while it is sent.
        file = path.open("rb")
    except FileNotFoundError:
        raise NotFound("The file was removed.", hint="`expires_at` says how long results are kept.") from None
    try:
        size = os.fstat(file.fileno()).st_size
        part = _part(range_header, size) if if_range in {None, headers["ETag"]} else None
    except BaseException:
        file.close()
        raise
    sent_headers = {**headers, "Accept-Ranges": "bytes", "Content-Disposition": f'attachment; filename="{name}"'}
    if part is not None:
        sent_headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    sent = range(size) if part is None else part
    sent_headers["Content-Length"] = str(len(sent))
    status = HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT
    return Download(file, sent, status=status, media_type=media_type, headers=sent_headers)


def _part(range_header: str | None, size: int) -> range | None:
    """Return the requested offsets; None for the whole file.

    A header that holds no range, or several, is ignored (RFC 9110, 14.2).
    """
    match = _ONE_RANGE.fullmatch(range_header or "")
    if match is None:
        return None
    first, last, length = match.groups()
    start = max(0, size - int(length)) if first is None else int(first)
    stop = min(size, int(last) + 1) if last else size
    if last and int(last) < start:
        return None
    if start >= stop:
        raise RangeNotSatisfiable(
            f"The file has {size:,} bytes.",
            hint="Request it from its beginning.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return range(start, stop)


def _pieces(file: BinaryIO, part: range) -> Iterator[bytes]:
    file.seek(part.start)
    left = len(part)
    while left and (piece := file.read(min(_PIECE_BYTES, left))):
        left -= len(piece)
        yield piece
