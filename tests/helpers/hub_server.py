"""A local server that speaks enough of the Hugging Face Hub's HTTP API for the real client, backed by a folder.

Repositories on the branch `main`: create, upload (regular and LFS files), list, download any revision. Models and
data sets share one set of names. The folder holds `blobs/<sha256>` and one JSON of commits per repository, so a new
server over it serves the same repos. The client reads its endpoint at import, so drive it in a subprocess:
`server.run(code, *args)`, or start your own with `{**os.environ, **server.environment()}`.
"""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from packaging.version import Version

TOKEN = "local-test-token"
LFS_THRESHOLD = 10 * 2**20
NAME = r"[\w-][\w.-]*"
REPO = rf"(?P<repo>{NAME}(?:/{NAME})?)"
REV = "(?P<rev>[^/]+)"
OID = "(?P<oid>[0-9a-f]{64})"
PULL_REQUEST = "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request."
ROUTES: list[tuple[str, re.Pattern, Callable]] = []


class HubError(Exception):
    """An HTTP error, with the `X-Error-Code` by which the client picks its exception."""

    def __init__(self, status: int, code: str, message: str, **headers: str):
        self.status, self.message = status, message
        self.headers = {"X-Error-Code": code, "X-Error-Message": message, **headers}


class HubServer(ThreadingHTTPServer):
    """`with HubServer(folder) as server:` serves the folder at `server.url`; `server.requests` lists what was asked."""

    def __init__(self, folder: Path, user: str = "tester"):
        super().__init__(("127.0.0.1", 0), Handler)
        self.user = user  # who has TOKEN
        self.folder = Path(folder)
        self.blobs = self.folder / "blobs"
        self.blobs.mkdir(parents=True, exist_ok=True)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.requests: list[str] = []
        self.lock = threading.RLock()

    def __enter__(self) -> "HubServer":
        if Version(version("huggingface_hub")) < Version("2.2"):
            pytest.skip("before 2.2 huggingface_hub checks model cards at the real Hub, wherever its endpoint is")
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.shutdown()
        self.server_close()

    def environment(self, home: Path | None = None) -> dict[str, str]:
        """What a client needs in its environment; `home` is its cache, by default one kept beside the repositories."""
        home = Path(home or self.folder / "client")
        return {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def run(self, code: str, *args: object, home: Path | None = None) -> str:
        """Run Python code in a subprocess that has this server as its Hub; returns what it printed."""
        command = [sys.executable, "-c", code, *map(str, args)]
        environment = {**os.environ, **self.environment(home)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"the client failed:\n{done.stderr}"
        return done.stdout

    def publish(self, repo: str, folder: Path) -> None:
        """Make a repository of a folder's files, whoever's it is, as if its owner had uploaded them."""
        files = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            content = path.read_bytes()
            stored = self.regular_file(content)
            files[path.relative_to(folder).as_posix()] = self.lfs_file(stored["sha256"]) if b"\0" in content else stored
        self.add_commit(repo, {"private": False, "commits": {}}, files, "publish")

    def repo_file(self, repo: str) -> Path:
        return self.folder / "repos" / f"{repo}.json"

    def add_commit(self, repo: str, record: dict, files: dict, title: str) -> str:
        """Append a commit to a repository's record and write it; the last commit is `main`."""
        date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        commit = {"parent": next(reversed(record["commits"]), None), "title": title, "date": date, "files": files}
        sha = hashlib.sha1(json.dumps([repo, commit]).encode()).hexdigest()
        record["commits"][sha] = commit
        path = self.repo_file(repo)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(record, indent=1))
        partial.replace(path)
        return sha

    def add_blob(self, chunks: Iterator[bytes]) -> str:
        """Store content under its sha256."""
        digest = hashlib.sha256()
        with tempfile.NamedTemporaryFile(dir=self.blobs, delete=False) as file:
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
        Path(file.name).replace(self.blobs / digest.hexdigest())
        return digest.hexdigest()

    def regular_file(self, content: bytes) -> dict:
        sha256 = self.add_blob(iter([content]))
        return {"oid": git_oid(content), "sha256": sha256, "size": len(content), "lfs": None}

    def lfs_file(self, sha256: str) -> dict:
        size = (self.blobs / sha256).stat().st_size
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
        lfs = {"oid": sha256, "sha256": sha256, "size": size, "pointerSize": len(pointer)}
        return {"oid": git_oid(pointer), "sha256": sha256, "size": size, "lfs": lfs}


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def route(method: str, pattern: str) -> Callable:
    def register(function: Callable) -> Callable:
        ROUTES.append((method, re.compile(pattern), function))
        return function

    return register


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HubServer

    def dispatch(self) -> None:
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        self.server.requests.append(f"{self.command} {url.path}")
        # Read even what will be refused: the next request follows on the same connection.
        self.body = b"".join(self.received()) if self.command == "POST" else b""
        method = "GET" if self.command == "HEAD" else self.command
        path = re.sub(r"^/api/datasets/", "/api/models/", re.sub(r"^/datasets/", "/", url.path))
        try:
            for route_method, pattern, function in ROUTES:
                if method == route_method and (match := pattern.fullmatch(path)):
                    return function(self, **{key: unquote(value or "") for key, value in match.groupdict().items()})
            raise HubError(501, "NotImplemented", f"hub_server.py has no {self.command} {url.path}", Connection="close")
        except HubError as error:
            self.reply({"error": error.message}, error.status, **error.headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = dispatch  # noqa: N815

    def log_message(self, *_) -> None:
        pass

    def received(self) -> Iterator[bytes]:
        """The request's body."""
        remaining = int(self.headers.get("Content-Length", 0))
        while remaining and (chunk := self.rfile.read(min(remaining, 2**20))):
            remaining -= len(chunk)
            yield chunk

    def reply(self, value: object, status: int = 200, **headers: str) -> None:
        data = json.dumps(value).encode()
        self.start(status, {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers})
        if self.command != "HEAD":
            self.wfile.write(data)

    def start(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    @property
    def authorised(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def require_token(self) -> None:
        if not self.authorised:
            raise HubError(401, "", "Invalid credentials in Authorization header")

    def require_rights(self, repo: str, refusal: str) -> None:
        """Only the user's own repositories can be written to."""
        self.require_token()
        if repo.partition("/")[0] != self.server.user:
            raise HubError(403, "", refusal)

    def record(self, repo: str) -> dict:
        path = self.server.repo_file(repo)
        record = json.loads(path.read_text()) if path.is_file() else None
        if record is None or (record["private"] and not self.authorised):
            raise HubError(404, "RepoNotFound", "Repository not found")
        return record

    def commit_of(self, record: dict, rev: str) -> tuple[str, dict]:
        """The commit that `main`, a commit id or the start of one names."""
        for sha in reversed(record["commits"]):
            if rev == "main" or (len(rev) >= 7 and sha.startswith(rev)):
                return sha, record["commits"][sha]
        raise HubError(404, "RevisionNotFound", f"Invalid rev id: {rev}")

    @route("GET", "/api/whoami-v2")
    def whoami(self) -> None:
        self.require_token()
        access = {"displayName": "tests", "role": "write"}
        auth = {"type": "access_token", "accessToken": access}
        self.reply(
            {
                "type": "user",
                "id": "1",
                "name": self.server.user,
                "fullname": self.server.user,
                "orgs": [],
                "auth": auth,
            }
        )

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self) -> None:
        has_metadata = re.match(r"---\s*\n.*?\n---", json.loads(self.body)["content"], re.DOTALL)
        warning = {"message": "empty or missing yaml metadata in repo card"}
        self.reply({"errors": [], "warnings": [] if has_metadata else [warning]})

    @route("POST", "/api/repos/create")
    def create(self) -> None:
        self.require_token()
        asked = json.loads(self.body)
        repo = f"{asked.get('organization') or self.server.user}/{asked['name']}"
        kind = asked.get("type", "model")
        if kind not in ("model", "dataset") or not re.fullmatch(REPO, repo):
            raise HubError(400, "", f"hub_server.py has repositories of models and data sets only: {asked}")
        owner = repo.partition("/")[0]
        self.require_rights(repo, f'You don\'t have the rights to create a {kind} under the namespace "{owner}".')
        answer = {"url": f"{self.server.url}/{'datasets/' * (kind == 'dataset')}{repo}", "name": repo, "id": repo}
        with self.server.lock:
            if self.server.repo_file(repo).exists():
                return self.reply({**answer, "error": "You already created this model repo"}, 409)
            # The Hub, too, starts a repository with a commit of this file.
            attributes = self.server.regular_file(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
            record = {"private": asked.get("visibility") == "private", "commits": {}}
            self.server.add_commit(repo, record, {".gitattributes": attributes}, "initial commit")
        self.reply(answer)

    @route("GET", rf"/api/models/{REPO}(?:/revision/{REV})?")
    def info(self, repo: str, rev: str) -> None:
        record = self.record(repo)
        sha, commit = self.commit_of(record, rev or "main")
        siblings = [{"rfilename": path} for path in commit["files"]]
        if "blobs" in self.query:
            for sibling, file in zip(siblings, commit["files"].values(), strict=True):
                sibling.update({"size": file["size"], "blobId": file["oid"], "lfs": file["lfs"]})
        described = {"id": repo, "author": repo.split("/")[0], "sha": sha, "lastModified": commit["date"], "tags": []}
        self.reply({**described, "private": record["private"], "gated": False, "siblings": siblings})

    @route("GET", rf"/api/models/{REPO}/tree/{REV}(?:/(?P<folder>.+))?")
    def tree(self, repo: str, rev: str, folder: str) -> None:
        _, commit = self.commit_of(self.record(repo), rev)
        prefix = f"{folder}/" if folder else ""
        listed = {path: {"type": "file", "path": path, **file} for path, file in commit["files"].items()}
        listed = {path: file for path, file in listed.items() if path.startswith(prefix)}
        if folder and not listed:
            raise HubError(404, "EntryNotFound", "Entry not found")
        if self.query.get("recursive", [""])[0].lower() != "true":
            inner = {prefix + path.removeprefix(prefix).partition("/")[0] for path in listed}
            listed = {path: listed.get(path, {"type": "directory", "path": path, "oid": ""}) for path in inner}
        self.reply([listed[path] for path in sorted(listed)])

    @route("POST", rf"/api/models/{REPO}/preupload/{REV}")
    def preupload(self, repo: str, rev: str) -> None:
        """Say how each file is to be uploaded, and what is already there under its name."""
        record = self.record(repo)
        self.require_rights(repo, PULL_REQUEST)
        _, commit = self.commit_of(record, rev)
        answers = []
        for file in json.loads(self.body)["files"]:
            binary = b"\0" in base64.b64decode(file["sample"]) or file["path"].endswith(".safetensors")
            mode = "lfs" if binary or file["size"] > LFS_THRESHOLD else "regular"
            present = commit["files"].get(file["path"])
            oid = present and (present["sha256"] if present["lfs"] else present["oid"])
            answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.reply({"files": answers})

    @route("POST", rf"/{REPO}\.git/info/lfs/objects/batch")
    def lfs_batch(self, repo: str) -> None:
        self.require_token()
        self.record(repo)
        objects = json.loads(self.body)["objects"]
        for entry in objects:
            href = f"{self.server.url}/lfs/{entry['oid']}"
            if not (self.server.blobs / entry["oid"]).exists():
                entry["actions"] = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
        self.reply({"transfer": "basic", "objects": objects})

    @route("PUT", f"/lfs/{OID}")
    def lfs_put(self, oid: str) -> None:
        if self.server.add_blob(self.received()) != oid:
            raise HubError(400, "", "the content is not what its oid says")
        self.reply({})

    @route("POST", f"/lfs/{OID}/verify")
    def lfs_verify(self, oid: str) -> None:
        blob = self.server.blobs / oid
        if not blob.exists() or blob.stat().st_size != json.loads(self.body)["size"]:
            raise HubError(404, "", f"no object {oid} of that size")
        self.reply({})

    @route("POST", rf"/api/models/{REPO}/commit/{REV}")
    def commit(self, repo: str, rev: str) -> None:
        self.require_rights(repo, PULL_REQUEST)
        header, *operations = [json.loads(line) for line in self.body.splitlines()]
        with self.server.lock:
            record = self.record(repo)
            head, commit = self.commit_of(record, rev)
            if rev != "main" or "create_pr" in self.query:
                raise HubError(501, "NotImplemented", "hub_server.py commits to main only")
            if not head.startswith(header["value"].get("parentCommit", "")):
                raise HubError(412, "", "A commit has happened since. Please refresh and try again.")
            files = commit["files"]
            for operation in operations:
                files = self.applied(files, operation["key"], operation["value"])
            sha = self.server.add_commit(repo, record, files, header["value"]["summary"])
        self.reply({"success": True, "commitOid": sha, "commitUrl": f"{self.server.url}/{repo}/commit/{sha}"})

    def applied(self, files: dict, key: str, value: dict) -> dict:
        """The files after one operation of a commit."""
        path = value["path"]
        if key == "file":
            return {**files, path: self.server.regular_file(base64.b64decode(value["content"]))}
        if key == "lfsFile":
            if not (self.server.blobs / value["oid"]).exists():
                raise HubError(400, "", f"{path}: its LFS object was never uploaded")
            return {**files, path: self.server.lfs_file(value["oid"])}
        gone = {path} if key == "deletedFile" else {name for name in files if name.startswith(f"{path.rstrip('/')}/")}
        if not gone & files.keys():
            raise HubError(404, "EntryNotFound", f"A file with this name doesn't exist: {path}")
        return {name: file for name, file in files.items() if name not in gone}

    @route("GET", rf"/{REPO}/resolve/{REV}/(?P<path>.+)")
    def resolve(self, repo: str, rev: str, path: str) -> None:
        sha, commit = self.commit_of(self.record(repo), rev)
        headers = {"X-Repo-Commit": sha, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        if (file := commit["files"].get(path)) is None:
            raise HubError(404, "EntryNotFound", "Entry not found", **{"X-Repo-Commit": sha})
        headers["ETag"] = f'"{file["sha256"] if file["lfs"] else file["oid"]}"'
        if file["lfs"]:
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(file["size"])}
        status, start, stop = 200, 0, file["size"]
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, last = int(match[1]), match[2]
            stop = min(int(last) + 1, stop) if last else stop
            if start >= stop:
                raise HubError(416, "", "Range not satisfiable", **{"Content-Range": f"bytes */{file['size']}"})
            status = 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file['size']}"
        self.start(status, {**headers, "Content-Length": str(stop - start)})
        if self.command != "HEAD" and stop > start:
            with (self.server.blobs / file["sha256"]).open("rb") as content:
                self.connection.sendfile(content, start, stop - start)
