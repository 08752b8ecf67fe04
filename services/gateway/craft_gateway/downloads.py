"""Files to download, whole or from where a broken download left off (RFC 9110, 14)."""

import os
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from craft.errors import NotFound, RangeNotSatisfiable

_ONE_RANGE = re.compile(r"\s*bytes\s*=\s*(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))\s*", re.IGNORECASE | re.ASCII)
_PIECE_BYTES = 2**16


def download(
    path: Path, *, name: str, media_type: str, headers: Mapping[str, str], asked: str | None, if_range: str | None
) -> StreamingResponse:
    """The file under that name, or the part of it that the `Range` header `asked` for.

    `if_range` is the header: another entity tag than that of `headers` asks for the whole file. Raises
    RangeNotSatisfiable where the file has no such part, NotFound where it is gone.
    """
    try:
        # Opened before the answer begins: a sweep may remove it meanwhile.
        file = path.open("rb")
    except FileNotFoundError:
        raise NotFound("The file was removed.", hint="`expires_at` tells how long results are kept.") from None
    size = os.fstat(file.fileno()).st_size
    told = {**headers, "Accept-Ranges": "bytes", "Content-Disposition": f'attachment; filename="{name}"'}
    try:
        part = _part(asked, size) if if_range in {None, headers["ETag"]} else None
    except RangeNotSatisfiable:
        file.close()
        raise
    status = HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT
    if part is None:
        part = range(size)
    else:
        told["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    told["Content-Length"] = str(len(part))
    return _FileResponse(file, part, status_code=status, media_type=media_type, headers=told)


class _FileResponse(StreamingResponse):
    """Part of an open file. However the answer ends, the file is closed."""

    def __init__(self, file: BinaryIO, part: range, **options: Any) -> None:
        self._file = file
        super().__init__(_pieces(file, part), **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `Response.__call__`."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            # No thread reads any longer: one that does is waited for.
            self._file.close()


def _part(asked: str | None, size: int) -> range | None:
    """The offsets that are wanted; None for all. What is no range, or several, is ignored, as the RFC allows."""
    found = _ONE_RANGE.fullmatch(asked or "")
    if found is None:
        return None
    first, last, length = found.groups()
    start = max(0, size - int(length)) if first is None else int(first)
    stop = min(size, int(last) + 1) if last else size
    if last and int(last) < start:
        return None
    if start >= stop:
        raise RangeNotSatisfiable(f"The file has {size:,} bytes.", hint="Ask for it from its beginning.", size=size)
    return range(start, stop)


def _pieces(file: BinaryIO, part: range) -> Iterator[bytes]:
    file.seek(part.start)
    left = len(part)
    while left and (piece := file.read(min(_PIECE_BYTES, left))):
        left -= len(piece)
        yield piece
