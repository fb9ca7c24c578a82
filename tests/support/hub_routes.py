"""The routes of the tests' Hub, as `huggingface_hub` calls them."""

import base64
import fnmatch
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from hub_repositories import OWNER_OF, File, Repository

if TYPE_CHECKING:
    from hub_server import TestHub


class Handler(BaseHTTPRequestHandler):
    hub: "TestHub"
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Nothing on the screen."""

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def _serve(self) -> None:
        path = unquote(urlsplit(self.path).path)
        request = f"{self.command} {path}"
        body = self._read_body()
        with self.hub.lock:
            self.hub.requests.append(request)
            self.hub.bodies.append(body)
        self.fault = self.hub.fault_of(request)
        if isinstance(self.fault, int):
            return self._answer(self.fault, {"error": f"planned {self.fault}"})
        if self.fault == "die":
            self.close_connection = True
            threading.Thread(target=self.hub.stop).start()
            return None
        for pattern, method in _ROUTES:
            if match := re.fullmatch(pattern, request):
                return getattr(self, method)(body, *match.groups())
        return self._answer(404, {"error": f"no route {request}"})

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            blocks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                blocks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(blocks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, status: int, content: Any = b"", headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        if self.fault == "lose":
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.fault == "cut":
            data, self.close_connection = data[: len(data) // 2], True
        if self.fault == "flip":
            data = data[:-1] + bytes([data[-1] ^ 1])
        self.wfile.write(data)

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, {"error": code}, {"X-Error-Code": code})

    # Who asks

    @property
    def owner(self) -> str | None:
        return OWNER_OF.get(self.headers.get("Authorization", "").removeprefix("Bearer "))

    def _may_write(self, name: str) -> bool:
        if self.owner is None:
            self._answer(401, {"error": "Invalid credentials"}, {"X-Error-Message": _BAD_TOKEN})
        elif self.owner != name.split("/")[0]:
            self._answer(403, {"error": f"Forbidden: you cannot write to {name}"})
        return self.owner == name.split("/")[0]

    def _repository(self, name: str) -> Repository | None:
        repository = self.hub.repositories.get(name)
        hidden = repository is not None and repository.private and self.owner != name.split("/")[0]
        if repository is None or hidden:
            self._refuse(404 if self.owner else 401, "RepoNotFound")
            return None
        return repository

    def _commit(self, name: str, revision: str) -> tuple[str, dict[str, File]] | None:
        repository = self._repository(name)
        if repository is None:
            return None
        commit = repository.at(revision)
        if commit is None:
            self._refuse(404, "RevisionNotFound")
        return commit

    # Writing

    def whoami(self, body: bytes) -> None:
        if self.owner is None:
            return self._answer(401, {"error": "Invalid credentials"}, {"X-Error-Message": _BAD_TOKEN})
        return self._answer(200, {"name": self.owner, "type": "user", "orgs": []})

    def create(self, body: bytes) -> None:
        wanted = json.loads(body)
        name = f"{wanted.get('organization') or self.owner}/{wanted['name']}"
        if not self._may_write(name):
            return None
        url = f"{self.hub.url}/{name}"
        if name in self.hub.repositories:
            return self._answer(409, {"url": url, "error": "You already created this model repo"})
        repository = Repository(private=wanted.get("visibility") == "private")
        repository.add({".gitattributes": File(5, b"* x=y")})
        self.hub.repositories[name] = repository
        return self._answer(200, {"url": url})

    def validate_yaml(self, body: bytes) -> None:
        valid = json.loads(body)["content"].startswith("---\n")
        self._answer(200, {"errors": [] if valid else [{"message": "no metadata"}], "warnings": []})

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        wanted = json.loads(body)
        if not self._may_write(name) or (commit := self._commit(name, revision)) is None:
            return
        there = commit[1]
        ignored = wanted.get("gitIgnore", (there.get(".gitignore") or File(0, b"")).content.decode()).split()
        self._answer(
            200,
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                        "shouldIgnore": any(fnmatch.fnmatch(file["path"], pattern) for pattern in ignored),
                        "oid": there[file["path"]].oid if file["path"] in there else None,
                    }
                    for file in wanted["files"]
                ]
            },
        )

    def lfs_batch(self, body: bytes, name: str) -> None:
        objects = []
        for wanted in json.loads(body)["objects"]:
            known = (self.hub.folder / "lfs" / wanted["oid"]).exists()
            href = f"{self.hub.url}/lfs-upload/{wanted['oid']}"
            actions = {"upload": {"href": href, "header": {}}, "verify": {"href": f"{self.hub.url}/lfs-verify"}}
            objects.append(wanted if known else {**wanted, "actions": actions})
        if self._may_write(name):
            self._answer(200, {"objects": objects})

    def lfs_upload(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            return self._answer(400, {"error": "wrong bytes"})
        (self.hub.folder / "lfs" / oid).write_bytes(body)
        return self._answer(200)

    def lfs_verify(self, body: bytes) -> None:
        known = (self.hub.folder / "lfs" / json.loads(body)["oid"]).exists()
        self._answer(200 if known else 404)

    def commit(self, body: bytes, name: str, revision: str) -> None:
        if not self._may_write(name) or (head := self._commit(name, revision)) is None:
            return None
        lines = [json.loads(line) for line in body.splitlines()]
        parent = next(line["value"].get("parentCommit") for line in lines if line["key"] == "header")
        if parent not in (None, head[0]):
            return self._answer(412, {"error": "A commit has happened since. Please refresh and try again."})
        files = dict(head[1])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                content = base64.b64decode(value["content"])
                files[value["path"]] = File(len(content), content)
            elif line["key"] == "lfsFile":
                files[value["path"]] = File(value["size"], sha256=value["oid"])
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        oid = self.hub.repositories[name].add(files)
        return self._answer(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid})

    # Reading

    def info(self, body: bytes, name: str, revision: str | None) -> None:
        if (commit := self._commit(name, revision or "main")) is None:
            return
        siblings = [{"rfilename": path} for path in sorted(commit[1])]
        private = self.hub.repositories[name].private
        self._answer(200, {"id": name, "sha": commit[0], "private": private, "tags": [], "siblings": siblings})

    def tree(self, body: bytes, name: str, revision: str) -> None:
        if (commit := self._commit(name, revision)) is None:
            return
        self._answer(200, [self._tree_entry(path, file) for path, file in sorted(commit[1].items())])

    def _tree_entry(self, path: str, file: File) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": path, "size": file.size, "oid": file.oid}
        if file.sha256 is not None:
            entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 134}
            if self.hub.xet:
                entry["xetHash"] = self.hub.xet_hash(file.sha256)
        return entry

    def resolve(self, body: bytes, name: str, revision: str, path: str) -> None:
        if (commit := self._commit(name, revision)) is None:
            return None
        oid, files = commit
        if path not in files:
            return self._answer(404, {"error": "none"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": oid})
        file = files[path]
        headers = {"X-Repo-Commit": oid, "ETag": f'"{file.oid}"', "Accept-Ranges": "bytes"}
        if file.sha256 is not None:
            headers |= {"X-Linked-ETag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
        if file.sha256 is not None and self.hub.xet:
            link = f'<{self.hub.url}/api/models/{name}/xet-read-token/{oid}>; rel="xet-auth"'
            headers |= {"X-Xet-Hash": self.hub.xet_hash(file.sha256), "Link": link}
            if self.command == "HEAD":
                return self._answer(200, b"", {**headers, "Content-Length": str(file.size)})
        data = self.hub.bytes_of(file)
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(asked[1])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            return self._answer(206, data[start:], headers)
        return self._answer(200, data, headers)

    def xet_token(self, body: bytes, name: str) -> None:
        where = f"local://{self.hub.folder / 'cas'}"
        headers = {"X-Xet-Cas-Url": where, "X-Xet-Access-Token": "t", "X-Xet-Token-Expiration": "9999999999"}
        self._answer(200, {"casUrl": where, "accessToken": "t", "exp": 9999999999}, headers)


_BAD_TOKEN = "Invalid credentials in Authorization header"
_ID, _REVISION = r"([\w.-]+/[\w.-]+)", r"([^/]+)"
_ROUTES = (
    (r"GET /api/whoami-v2", "whoami"),
    (r"POST /api/repos/create", "create"),
    (r"POST /api/validate-yaml", "validate_yaml"),
    (rf"POST /api/models/{_ID}/preupload/{_REVISION}", "preupload"),
    (rf"POST /{_ID}\.git/info/lfs/objects/batch", "lfs_batch"),
    (r"PUT /lfs-upload/(\w+)", "lfs_upload"),
    (r"POST /lfs-verify", "lfs_verify"),
    (rf"POST /api/models/{_ID}/commit/{_REVISION}", "commit"),
    (rf"GET /api/models/{_ID}/xet-(?:write|read)-token/.*", "xet_token"),
    (rf"GET /api/models/{_ID}/tree/{_REVISION}(?:/.*)?", "tree"),
    (rf"GET /api/models/{_ID}(?:/revision/{_REVISION})?", "info"),
    (rf"(?:GET|HEAD) /{_ID}/resolve/{_REVISION}/(.+)", "resolve"),
)
