"""A fake model hub for huggingface_hub's client, over real HTTP: repositories, LFS uploads and commits."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_token_of_the_tests"
_LFS = re.compile(r"\.safetensors$")


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)

    @property
    def head(self) -> str:
        return hashlib.sha1("\n".join(["", *self.commits]).encode(), usedforsecurity=False).hexdigest()


@dataclass
class FakeHub:
    """The hub's state. `broken` maps a part of a path to the statuses with which the next calls to it fail."""

    url: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    broken: dict[str, list[int]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str, token: str, body: bytes) -> tuple[int, Any]:
        self.calls.append(f"{method} {path}")
        for part, statuses in self.broken.items():
            if part in path and statuses:
                return statuses.pop(0), {"error": "broken by the test"}
        if method == "PUT" and path.startswith(
            "/upload/"
        ):  # needs no token: the address is signed, as for object stores
            return self._upload(path.removeprefix("/upload/"), body)
        if token != f"Bearer {TOKEN}":
            return 401, {"error": "Invalid user token."}
        document = json.loads(body) if body and not path.startswith("/api/models/") else {}
        if (method, path) == ("POST", "/api/repos/create"):
            return self._create(document)
        if path.endswith("/info/lfs/objects/batch"):
            return 200, {"transfer": "basic", "objects": [self._object(wanted) for wanted in document["objects"]]}
        if path == "/verify":
            return (200, {}) if document["oid"] in self.large else (404, {"error": "no such object"})
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(preupload|commit|revision)/main)?", path):
            return self._model_call(match[1], match[2], body)
        return 404, {"error": f"no {method} {path}"}

    def _create(self, document: dict[str, Any]) -> tuple[int, Any]:
        name = f"{document['organization']}/{document['name']}" if document.get("organization") else document["name"]
        if name in self.repositories:
            return 409, {"error": "You already created this model repo", "url": f"{self.url}/{name}"}
        self.repositories[name] = Repository(private=document.get("visibility") == "private")
        return 200, {"url": f"{self.url}/{name}"}

    def _model_call(self, name: str, call: str | None, body: bytes) -> tuple[int, Any]:
        repository = self.repositories.get(name)
        if repository is None:
            return 404, {"error": "Repository not found"}
        if call == "preupload":
            files = json.loads(body)["files"]
            return 200, {"files": [self._preupload(repository, file["path"]) for file in files]}
        if call == "commit":
            return self._commit(name, repository, [json.loads(line) for line in body.splitlines()])
        shown = {"id": name, "modelId": name, "private": repository.private, "sha": repository.head, "siblings": []}
        return 200, shown

    def _preupload(self, repository: Repository, path: str) -> dict[str, Any]:
        large, known = bool(_LFS.search(path)), repository.files.get(path)
        oid = None
        if known is not None:
            blob = b"blob %d\0%s" % (len(known), known)
            oid = hashlib.sha256(known).hexdigest() if large else hashlib.sha1(blob, usedforsecurity=False).hexdigest()
        return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid}

    def _object(self, wanted: dict[str, Any]) -> dict[str, Any]:
        oid = wanted["oid"]
        actions = {"upload": {"href": f"{self.url}/upload/{oid}"}, "verify": {"href": f"{self.url}/verify"}}
        return dict(wanted) if oid in self.large else {**wanted, "actions": actions}

    def _upload(self, oid: str, body: bytes) -> tuple[int, Any]:
        if hashlib.sha256(body).hexdigest() != oid:
            return 400, {"error": "other bytes than announced"}
        self.large[oid] = body
        return 200, {}

    def _commit(self, name: str, repository: Repository, lines: list[dict[str, Any]]) -> tuple[int, Any]:
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "lfsFile" and value["oid"] not in self.large:
                return 400, {"error": "LFS object was never uploaded"}
            content = self.large[value["oid"]] if line["key"] == "lfsFile" else base64.b64decode(value["content"])
            repository.files[value["path"]] = content
        repository.commits.append(lines[0]["value"]["summary"])
        return 200, {"commitUrl": f"{self.url}/{name}/commit/{repository.head}", "commitOid": repository.head}


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    """Run a hub on a free port of this machine."""
    hub = FakeHub("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = self._chunks() if self.headers.get("Transfer-Encoding") == "chunked" else self.rfile.read(size)
            path = self.path.partition("?")[0]
            status, answer = hub.answer(self.command, path, self.headers.get("Authorization", ""), body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PUT = do_GET  # noqa: N815 - the framework's names

        def _chunks(self) -> bytes:
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
