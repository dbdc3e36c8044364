"""A fixture: a small server that speaks the part of the Hub's protocol that adapters need, from memory.

It is not the Hub. It answers the calls that the real `huggingface_hub` client makes over HTTP - create, preupload, LFS
batch, upload and verify, commit, branches, revisions, trees, resolve with HEAD and ranges, listings by tag - as the Hub
does as far as that client looks: status codes, `X-Error-Code`, etags, `X-Repo-Commit`, a redirect of large files to
another host, pages by `Link`. What it leaves out: Xet (tests turn it off), pull requests, quotas, organisations with
members, git itself. Commits have no history but their parent, and their ids are hashes of their content.

`HubServer.misbehave` makes it fail in the ways that networks and servers do.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import yaml

LFS_SUFFIXES = (".safetensors", ".bin", ".model")


@dataclass(frozen=True)
class Blob:
    """A file's content."""

    content: bytes
    lfs: bool

    @property
    def git(self) -> str:
        content = self.content
        if self.lfs:  # what git itself stores then is a pointer
            text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(content)}\n"
            content = text.encode()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git


@dataclass
class Repository:
    """Commits by id, and branches."""

    id: str
    private: bool = False
    gated: bool = False
    downloads: int = 0
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        return self.id.split("/")[0]

    def commit(self, branch: str, files: dict[str, Blob]) -> str:
        """Put a state on a branch, all at once."""
        text = "".join(f"{name} {blob.git}\n" for name, blob in sorted(files.items()))
        commit = hashlib.sha1(f"{self.id} {self.branches.get(branch)} {text}".encode()).hexdigest()
        self.commits[commit] = dict(files)
        self.branches[branch] = commit
        return commit

    def resolve(self, revision: str) -> str | None:
        return self.branches.get(revision, revision if revision in self.commits else None)

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """Content by path."""
        return {name: blob.content for name, blob in self.commits[self.resolve(revision)].items()}

    def front_matter(self) -> dict[str, Any]:
        card = self.files().get("README.md", b"").decode()
        found = re.match(r"---\n(.*?)\n---\n", card, flags=re.DOTALL)
        return (yaml.safe_load(found[1]) if found else None) or {}

    def tags(self) -> list[str]:
        """What the Hub makes of a card: its tags, languages, base, license, library."""
        front = self.front_matter()
        languages = front.get("language") or []
        tags = [*(front.get("tags") or []), *([languages] if isinstance(languages, str) else languages)]
        if front.get("license"):
            tags.append(f"license:{front['license']}")
        return tags

    def info(self, commit: str) -> dict[str, Any]:
        siblings = [{"rfilename": name} for name in sorted(self.commits[commit])]
        return {
            "_id": "0",
            "id": self.id,
            "modelId": self.id,
            "sha": commit,
            "private": self.private,
            "gated": "auto" if self.gated else False,
            "disabled": False,
            "downloads": self.downloads,
            "likes": 0,
            "tags": self.tags(),
            "cardData": self.front_matter(),
            "createdAt": "2025-01-01T00:00:00.000Z",
            "lastModified": "2025-01-02T00:00:00.000Z",
            "siblings": siblings,
        }


@dataclass
class Fault:
    """How to fail, and at which requests."""

    method: str
    path: str
    kind: str
    value: Any
    times: int


@dataclass(frozen=True)
class Seen:
    """A request that came in."""

    method: str
    path: str
    headers: dict[str, str]


class HubServer:
    """The server and its repositories; a context that runs it in a thread.

    Attributes:
        tokens: User by token.
        page: Entries of a listing on one page.
        unwelcome: What to find wrong with every card.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.tokens = {"hf_ownerownerowner": "org", "hf_strangerstranger": "stranger"}
        self.lfs: dict[str, bytes] = {}
        self.seen: list[Seen] = []
        self.faults: list[Fault] = []
        self.page = 1000
        self.unwelcome: str | None = None
        self.stalled = threading.Event()
        self.go_on = threading.Event()
        self.lock = threading.RLock()
        self._server = _Threads(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def storage(self) -> str:
        """Where large files lie: another host by name, to which the client must not send its token."""
        return f"http://localhost:{self.port}"

    def add(self, repo_id: str, files: dict[str, bytes], *, private: bool = False, branch: str = "main") -> str:
        """Put files into a repository without asking anybody; returns the commit."""
        repository = self.repositories.setdefault(repo_id, Repository(repo_id, private))
        blobs = {name: Blob(content, name.endswith(LFS_SUFFIXES)) for name, content in files.items()}
        return repository.commit(branch, blobs)

    def misbehave(self, method: str, path: str, kind: str, value: Any = None, times: int = 1_000_000) -> None:
        """Fail at requests.

        Args:
            method: `GET`, `HEAD`, `POST` or `PUT`.
            path: Regular expression, searched for in the path.
            kind: `status` (answer `value`), `cut` (close the connection after `value` bytes), `short` (send `value`
                bytes as if they were all), `wrong` (flip a bit in the middle), `drop` (close without an answer),
                `stall` (send half, set `stalled`, wait for `go_on`), `die` (start to change the repository, then drop).
            value: See there.
            times: At most so often.
        """
        self.faults.append(Fault(method, path, kind, value, times))

    def fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None

    def requests(self, method: str, path: str) -> list[Seen]:
        return [each for each in self.seen if each.method == method and re.search(path, each.path)]


class _Threads(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what some tests are about."""


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message or code)
        self.status, self.code, self.message = status, code, message


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"
    fault: Fault | None = None

    def log_message(self, *_: object) -> None:
        """Silence."""

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_GET

    # ------------------------------------------------------------------------------------------------- the way in

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        self.query = parse_qs(parts.query)
        self.body = self._read_body()
        self.hub.seen.append(Seen(self.command, path, {key.lower(): value for key, value in self.headers.items()}))
        self.fault = self.hub.fault(self.command, path)
        try:
            if self.fault and self.fault.kind == "status":
                raise Refusal(self.fault.value, "", "told to fail")
            if self.fault and self.fault.kind == "drop":
                self._drop()
                return
            with self.hub.lock:
                answer = self._route(parts.path)
            if answer is not None:
                answer()
        except Refusal as refusal:
            self._refuse(refusal)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            chunks = []
            while size := int(self.rfile.readline().strip() or b"0", 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _route(self, raw: str) -> Callable[[], None] | None:
        for (method, pattern), name in ROUTES.items():
            found = re.fullmatch(pattern, raw)
            if found and self.command in method.split():
                return getattr(self, name)(*(unquote(group) for group in found.groups() if group is not None))
        raise Refusal(404, "", f"no such page: {raw}")

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    # ------------------------------------------------------------------------------------------------ who may what

    def _user(self) -> str | None:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if given and given not in self.hub.tokens:
            raise Refusal(401, "", "Invalid credentials in Authorization header")
        return self.hub.tokens.get(given)

    def _repository(self, repo_id: str, *, write: bool = False) -> Repository:
        user, found = self._user(), self.hub.repositories.get(repo_id)
        if found is None or (found.private and user != found.owner):
            raise Refusal(401 if user is None else 404, "RepoNotFound", "Repository not found")
        if found.gated and user != found.owner and not self.path.startswith("/api/"):
            raise Refusal(403, "GatedRepo", "Access to this model is restricted")
        if write and user != found.owner:
            raise Refusal(401 if user is None else 403, "", "You don't have the required permissions")
        return found

    def _commit_of(self, repository: Repository, revision: str) -> str:
        commit = repository.resolve(revision)
        if commit is None:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    # ----------------------------------------------------------------------------------------------------- reading

    def models(self) -> Callable[[], None]:
        wanted, user = set(self.query.get("filter", [])), self._user()
        found = [
            repository.info(repository.branches["main"])
            for repository in self.hub.repositories.values()
            if (not repository.private or repository.owner == user) and wanted <= set(repository.tags())
        ]
        author = self.query.get("author")
        found = [info for info in found if not author or info["id"].split("/")[0] in author]
        found.sort(key=lambda info: -info["downloads"])
        if "cardData" not in self.query:
            for info in found:
                del info["cardData"]
        return self._paged(found)

    def model(self, repo_id: str, revision: str = "main") -> Callable[[], None]:
        repository = self._repository(repo_id)
        return self._json(repository.info(self._commit_of(repository, revision)))

    def tree(self, repo_id: str, revision: str) -> Callable[[], None]:
        repository = self._repository(repo_id)
        entries = []
        for name, blob in sorted(repository.commits[self._commit_of(repository, revision)].items()):
            entry: dict[str, Any] = {"type": "file", "path": name, "size": len(blob.content), "oid": blob.git}
            if blob.lfs:
                entry["lfs"] = {"oid": blob.sha256, "size": len(blob.content), "pointerSize": 134}
            entries.append(entry)
        return self._paged(entries)

    def _paged(self, entries: list[Any]) -> Callable[[], None]:
        start = int(self.query.get("cursor", ["0"])[0])
        page, headers = entries[start : start + self.hub.page], {}
        if start + self.hub.page < len(entries):
            query = urlencode({**self.query, "cursor": start + self.hub.page}, doseq=True)
            headers["Link"] = f'<{self.hub.endpoint}{urlsplit(self.path).path}?{query}>; rel="next"'
        return self._json(page, headers)

    def resolve(self, repo_id: str, revision: str, name: str) -> Callable[[], None]:
        repository = self._repository(repo_id)
        commit = self._commit_of(repository, revision)
        blob = repository.commits[commit].get(name)
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if blob is None:
            raise Refusal(404, "EntryNotFound", "Entry not found")
        headers["ETag"] = f'"{blob.etag}"'
        if not blob.lfs:
            return lambda: self._content(blob.content, headers)
        self.hub.lfs[blob.sha256] = blob.content
        headers["X-Linked-Size"], headers["X-Linked-Etag"] = str(len(blob.content)), f'"{blob.sha256}"'
        headers["Location"] = f"{self.hub.storage}/storage/{blob.sha256}/{name}"
        return lambda: self._send(302, b"", headers)

    def stored(self, oid: str, _name: str) -> Callable[[], None]:
        content = self.hub.lfs[oid]
        return lambda: self._content(content, {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"})

    # ----------------------------------------------------------------------------------------------------- writing

    def create(self) -> Callable[[], None]:
        user, asked = self._user(), json.loads(self.body)
        if user is None:
            raise Refusal(401, "", "You must be logged in")
        owner = asked.get("organization") or user
        if owner != user:
            raise Refusal(403, "", f"You don't have the rights to create a model under the namespace {owner}")
        repo_id = f"{owner}/{asked['name']}"
        answer = {"url": f"{self.hub.endpoint}/{repo_id}", "name": repo_id, "id": "0"}
        if repo_id in self.hub.repositories:
            return self._json({**answer, "error": "You already created this model repo"}, status=409)
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.add(
            repo_id, {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}, private=private
        )
        return self._json(answer)

    def branch(self, repo_id: str, name: str) -> Callable[[], None]:
        repository = self._repository(repo_id, write=True)
        if name in repository.branches:
            raise Refusal(409, "", "Reference already exists")
        start = (json.loads(self.body or b"{}") or {}).get("startingPoint") or "main"
        repository.branches[name] = self._commit_of(repository, start)
        return self._json({})

    def preupload(self, repo_id: str, revision: str) -> Callable[[], None]:
        repository = self._repository(repo_id, write=True)
        there = repository.commits[self._commit_of(repository, revision)]
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular",
                "shouldIgnore": False,
                "oid": there[file["path"]].etag if file["path"] in there else None,
            }
            for file in json.loads(self.body)["files"]
        ]
        return self._json({"files": files})

    def batch(self, repo_id: str) -> Callable[[], None]:
        self._repository(repo_id, write=True)
        objects = []
        for each in json.loads(self.body)["objects"]:
            answer = {"oid": each["oid"], "size": each["size"]}
            if each["oid"] not in self.hub.lfs:
                upload = {"href": f"{self.hub.storage}/upload/{each['oid']}"}
                answer["actions"] = {"upload": upload, "verify": {"href": f"{self.hub.endpoint}/verify"}}
            objects.append(answer)
        return self._json({"transfer": "basic", "objects": objects})

    def upload(self, oid: str) -> Callable[[], None]:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refusal(400, "", "the content has another hash")
        self.hub.lfs[oid] = self.body
        return lambda: self._send(200, b"", {"ETag": f'"{oid}"'})

    def verify(self) -> Callable[[], None]:
        asked = json.loads(self.body)
        if len(self.hub.lfs.get(asked["oid"], b"")) != asked["size"]:
            raise Refusal(404, "", "not uploaded")
        return self._json({})

    def commit(self, repo_id: str, revision: str) -> Callable[[], None] | None:
        repository = self._repository(repo_id, write=True)
        head = repository.branches.get(revision)
        if head is None:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        lines = [json.loads(line) for line in self.body.splitlines()]
        files = dict(repository.commits[head])
        for number, line in enumerate(lines):
            if self.fault and self.fault.kind == "die" and number >= max(1, len(lines) // 2):
                self._drop()
                return None
            self._apply(line["key"], line["value"], files, head)
        commit = repository.commit(revision, files)
        url = f"{self.hub.endpoint}/{repo_id}/commit/{commit}"
        return self._json({"success": True, "commitOid": commit, "commitUrl": url})

    def _apply(self, key: str, value: dict[str, Any], files: dict[str, Blob], head: str) -> None:
        if key == "header":
            if value.get("parentCommit") not in (None, head):
                raise Refusal(412, "", "A commit has happened since. Please refresh and try again.")
        elif key == "file":
            files[value["path"]] = Blob(base64.b64decode(value["content"]), lfs=False)
        elif key == "lfsFile":
            if value["oid"] not in self.hub.lfs:
                raise Refusal(400, "", "LFS pointer pointed to a file that does not exist")
            files[value["path"]] = Blob(self.hub.lfs[value["oid"]], lfs=True)
        elif key == "deletedFile":
            if files.pop(value["path"], None) is None:
                raise Refusal(404, "EntryNotFound", "A file with this name doesn't exist")
        else:
            raise Refusal(400, "", f"unknown operation {key}")

    def validate_yaml(self) -> Callable[[], None]:
        content = json.loads(self.body)["content"]
        found = re.match(r"---\n(.*?)\n---\n", content, flags=re.DOTALL)
        try:
            yaml.safe_load(found[1] if found else "")
        except yaml.YAMLError as error:
            return self._json({"errors": [{"message": str(error)}], "warnings": []}, status=400)
        errors = [{"message": self.hub.unwelcome}] if self.hub.unwelcome else []
        return self._json({"errors": errors, "warnings": []}, status=400 if errors else 200)

    # ------------------------------------------------------------------------------------------------- the way out

    def _json(self, value: Any, headers: dict[str, str] | None = None, status: int = 200) -> Callable[[], None]:
        content = json.dumps(value).encode()
        return lambda: self._send(status, content, {"Content-Type": "application/json", **(headers or {})})

    def _refuse(self, refusal: Refusal) -> None:
        headers = {"Content-Type": "application/json"}
        if refusal.code:
            headers["X-Error-Code"] = refusal.code
        if refusal.message:
            headers["X-Error-Message"] = refusal.message
        self._send(refusal.status, json.dumps({"error": refusal.message}).encode(), headers)

    def _content(self, content: bytes, headers: dict[str, str]) -> None:
        """A file, or a range of it, as well or as badly as it shall arrive."""
        status, start = 200, 0
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            start = int(asked[1])
            end = min(int(asked[2] or len(content) - 1), len(content) - 1)
            if start >= len(content):
                self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
            status, headers = 206, {**headers, "Content-Range": f"bytes {start}-{end}/{len(content)}"}
            content = content[start : end + 1]
        if self.fault and self.command == "GET":
            if self.fault.kind == "wrong":
                middle = len(content) // 2
                content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            elif self.fault.kind == "short":
                content = content[: self.fault.value]
        self._send(status, content, headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        kind = self.fault.kind if self.fault else ""
        if kind in ("cut", "stall"):
            half = self.fault.value if kind == "cut" else len(content) // 2
            self.wfile.write(content[:half])
            self.wfile.flush()
            if kind == "cut":
                self._drop()
                return
            self.hub.stalled.set()
            self.hub.go_on.wait(60)
            content = content[half:]
        self.wfile.write(content)


REPO = r"([^/]+/[^/]+)"
ROUTES = {
    ("GET", r"/api/models"): "models",
    ("GET", rf"/api/models/{REPO}"): "model",
    ("GET", rf"/api/models/{REPO}/revision/([^/]+)"): "model",
    ("GET", rf"/api/models/{REPO}/tree/([^/]+)"): "tree",
    ("GET HEAD", r"/storage/([0-9a-f]+)/(.+)"): "stored",
    ("GET HEAD", rf"/{REPO}/resolve/([^/]+)/(.+)"): "resolve",
    ("POST", r"/api/repos/create"): "create",
    ("POST", r"/api/validate-yaml"): "validate_yaml",
    ("POST", rf"/api/models/{REPO}/branch/([^/]+)"): "branch",
    ("POST", rf"/api/models/{REPO}/preupload/([^/]+)"): "preupload",
    ("POST", rf"/api/models/{REPO}/commit/([^/]+)"): "commit",
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch"): "batch",
    ("PUT", r"/upload/([0-9a-f]+)"): "upload",
    ("POST", r"/verify"): "verify",
}
