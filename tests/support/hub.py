"""A server on this machine that answers huggingface_hub as a Hub does, and can fail in the ways that one does."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

# Below it a file lies in git and its ETag is git's SHA-1; from it on in large file storage, behind a redirect to
# another host, and its ETag is the SHA-256.
LARGE = 10_000


@dataclass
class Repository:
    """Files by name at one commit, and what goes wrong with them."""

    files: dict[str, bytes]
    revisions: tuple[str, ...] = ("main",)
    # The commit hash, in place of one of the content.
    pinned: str | None = None
    # A status and an error code that are given in place of everything.
    refused: tuple[int, str | None] | None = None
    # No request is answered.
    silent: bool = False
    private: bool = False
    # What is wrong with the content of a file: "cut short", "changed", "stalled".
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def commit(self) -> str:
        if self.pinned is not None:
            return self.pinned
        digest = hashlib.sha1(usedforsecurity=False)
        for name, content in sorted(self.files.items()):
            digest.update(name.encode() + hashlib.sha256(content).digest())
        return digest.hexdigest()


@dataclass
class Hub:
    """What the server has and the requests that it got."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    # The first part of each path that was requested, with the token that came along.
    tokens: set[tuple[str, str | None]] = field(default_factory=set)
    # Large files that were uploaded, by their SHA-256, before a commit has them.
    uploaded: dict[str, bytes] = field(default_factory=dict)
    # The messages of the commits that were made.
    commits: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(self, name: str, folder: Path) -> Repository:
        """Serve the files of a folder."""
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
        self.repositories[name] = Repository(files)
        return self.repositories[name]

    def requests_to(self, name: str) -> list[str]:
        """Return the requests that were made for a repository."""
        return [f"{method} {path}" for method, path in self.requests if f"{name}/" in f"{path}/"]


@contextmanager
def serve() -> Iterator[Hub]:
    """Run a Hub on a free port, in a thread of this process."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        hub.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()


def environment(hub: Hub, home: Path, **more: str) -> dict[str, str]:
    """Return the variables with which a process uses the Hub and nothing of this machine's own caches."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MONOGRAPH_CACHE", "XDG_"))
    }
    return inherited | {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(home / "huggingface"),
        "MONOGRAPH_CACHE": str(home / "monograph"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_ETAG_TIMEOUT": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "1",
        **more,
    }


def python(code: str, *arguments: object, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own: huggingface_hub reads its variables when it is imported."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=dict(env), capture_output=True, text=True, timeout=120, check=False)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        content = self._content()
        path = self._noted_path()
        if self.headers["Authorization"] is None:
            self._send(401)
        elif path == "/api/repos/create":
            self._create(json.loads(content))
        elif path == "/api/validate-yaml":
            self._send_json({"errors": [], "warnings": []})
        elif upload := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path):
            self._take_files(upload[1], content, commit=upload[2] == "commit")
        elif batch := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            self._send_places(batch[1], json.loads(content)["objects"])
        else:
            self._send(404)

    def do_PUT(self) -> None:
        content = self._content()
        self.hub.uploaded[self._noted_path().rpartition("/")[2]] = content
        self._send(200)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def _noted_path(self) -> str:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        self.hub.tokens.add((path.split("/")[1], self.headers["Authorization"]))
        return path

    def _content(self) -> bytes:
        """Read the request's content, in one piece or in chunks."""
        if self.headers["Transfer-Encoding"] != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"] or 0))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _create(self, request: dict[str, Any]) -> None:
        name = f"{request['organization']}/{request['name']}"
        known = self.hub.repositories.get(name)
        if known is not None and known.refused:
            self._send(known.refused[0])
        elif known is not None:
            # With content, which huggingface_hub reads where a repository may exist.
            self._send_json({"error": "You already created this model repo", "url": f"{self.hub.endpoint}/{name}"}, 409)
        else:
            # huggingface_hub 1 and 2 have either name for it.
            private = bool(request.get("private")) or request.get("visibility") == "private"
            self.hub.repositories[name] = Repository({}, private=private)
            self._send_json({"url": f"{self.hub.endpoint}/{name}"})

    def _take_files(self, name: str, content: bytes, *, commit: bool) -> None:
        """Say which files go to large file storage, or make a commit of files."""
        repository = self._repository(name, "main")
        if repository is None:
            return
        if not commit:
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["size"] >= LARGE else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(content)["files"]
            ]
            self._send_json({"files": modes})
            return
        for line in map(json.loads, content.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                self.hub.commits.append(value["summary"])
            elif line["key"] == "deletedFile":
                del repository.files[value["path"]]
            elif line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            else:
                assert line["key"] == "lfsFile", line
                repository.files[value["path"]] = self.hub.uploaded[value["oid"]]
        oid = repository.commit
        self._send_json({"commitOid": oid, "commitUrl": f"{self.hub.endpoint}/{name}/commit/{oid}"})

    def _send_places(self, name: str, objects: list[dict[str, object]]) -> None:
        """Say where large files are uploaded to; those that the Hub has need not be."""
        places: list[dict[str, object]] = []
        for entry in objects:
            upload = {"upload": {"href": f"http://localhost:{self.hub.port}/upload/{name}/{entry['oid']}"}}
            places.append(entry if entry["oid"] in self.hub.uploaded else entry | {"actions": upload})
        self._send_json({"transfer": "basic", "objects": places})

    def _send_json(self, value: object, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), headers={"Content-Type": "application/json"})

    def _answer(self) -> None:
        path = self._noted_path()
        if path == "/api/whoami-v2":
            self._send_user()
        elif path.startswith("/storage/"):
            organisation, name, stored = path.removeprefix("/storage/").split("/", 2)
            self._send_stored(self.hub.repositories[f"{organisation}/{name}"], stored)
        elif api := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/(.+))?", path):
            self._send_listing(api[1], tree=api[2] == "tree", revision=api[3] or "main")
        elif file := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._send_file(file[1], file[2], file[3])
        else:
            self._send(404)

    def _send_user(self) -> None:
        """Say whose token it is, and what it may do: "hf_unknown" is nobody's, and "hf_reader" may only read."""
        token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
        if token in ("", "hf_unknown"):
            self._send(401)
            return
        role = "read" if token == "hf_reader" else "write"
        self._send_json({"type": "user", "name": "someone", "orgs": [], "auth": {"accessToken": {"role": role}}})

    def _repository(self, name: str, revision: str) -> Repository | None:
        """Return a repository, or send why not."""
        repository = self.hub.repositories.get(name)
        if repository is None:
            # What the Hub says to those who are not logged in, for it may be private.
            self._send(404 if self.headers["Authorization"] else 401, code="RepoNotFound")
        elif repository.silent:
            self.hub.stopped.wait()
            raise ConnectionAbortedError
        elif repository.refused:
            status, code = repository.refused
            self._send(status, code=code, headers={"Retry-After": "300"})
        elif revision not in (*repository.revisions, repository.commit):
            self._send(404, code="RevisionNotFound")
        else:
            return repository
        return None

    def _send_listing(self, name: str, *, tree: bool, revision: str) -> None:
        repository = self._repository(name, revision)
        if repository is None:
            return
        if tree:
            value: object = [_entry(file, content) for file, content in repository.files.items()]
        else:
            siblings = [{"rfilename": file} for file in repository.files]
            value = {
                "id": name,
                "modelId": name,
                "sha": repository.commit,
                "siblings": siblings,
                "private": repository.private,
            }
        self._send_json(value)

    def _send_file(self, name: str, revision: str, file: str) -> None:
        repository = self._repository(name, revision)
        if repository is None:
            return
        if file not in repository.files:
            self._send(404, code="EntryNotFound")
            return
        content = repository.files[file]
        headers = {"X-Repo-Commit": repository.commit, "ETag": f'"{git_sha1(content)}"'}
        if len(content) < LARGE:
            self._send(200, self._faulty(repository, file), headers=headers)
            return
        headers |= {"X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Linked-Size": str(len(content))}
        # Another name of this host stands for the other host that a Hub keeps large files on.
        headers |= {"Location": f"http://localhost:{self.hub.port}/storage/{name}/{file}"}
        self._send(302, headers=headers)

    def _send_stored(self, repository: Repository, file: str) -> None:
        content = self._faulty(repository, file)
        start = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        self._send(206, content[int(start[1]) :]) if start else self._send(200, content)

    def _faulty(self, repository: Repository, file: str) -> bytes:
        fault, content = repository.faults.get(file), repository.files[file]
        if fault == "changed":
            return content[:-1] + bytes([content[-1] ^ 1])
        if fault and self.command == "GET":
            self._send_half(content, closing=fault == "cut short")
        return content

    def _send_half(self, content: bytes, *, closing: bool) -> None:
        """Promise the whole and send a half, then close the connection or leave it open."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        if not closing:
            self.hub.stopped.wait()
        raise ConnectionAbortedError

    def _send(
        self, status: int, content: bytes = b"", *, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", f"{code} says the server")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True


def git_sha1(content: bytes) -> str:
    """Return the hash that git names a file by."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _entry(file: str, content: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": file, "oid": git_sha1(content), "size": len(content)}
    if len(content) >= LARGE:
        large = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        entry["lfs"] = large
    return entry
