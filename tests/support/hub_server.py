"""A small Hub for the tests, on loopback, of the standard library: the routes that `huggingface_hub` calls, no more.

Repositories are lists of commits in memory; large files are in a folder, by their SHA-256. Uploads come by LFS, or by
xet into a `local://` store, which the client writes and reads by itself. Faults can be planned: the server answers
with a status, cuts the connection, sends wrong bytes, or dies.
"""

import re
import struct
import threading
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path

from hub_repositories import File, Repository
from hub_routes import Handler


@dataclass
class Fault:
    """What happens to the next `times` requests whose method and path match `request`.

    Args:
        request: searched for in "METHOD /path".
        action: a status to answer with, or "cut" (the connection, half way), "lose" (the answer), "flip" (a bit) or
            "die".
        times: how often.
    """

    request: str
    action: int | str
    times: int = 1


class TestHub:
    """The server and its state, which outlives the server: `stop()` and `start()` keep the port.

    Args:
        folder: where large files are kept.
        xet: whether uploads go by xet.
    """

    __test__ = False

    def __init__(self, folder: Path, xet: bool = False) -> None:
        self.folder, self.xet = folder, xet
        self.repositories: dict[str, Repository] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.bodies: list[bytes] = []
        self.lock = threading.RLock()
        self._port = 0
        (folder / "lfs").mkdir(parents=True)
        (folder / "cas").mkdir()
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        handler = type("Handler", (Handler,), {"hub": self})
        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), handler)
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def forget(self) -> None:
        """Drop repositories, faults and what was sent."""
        for kept in (self.repositories, self.faults, self.requests, self.bodies):
            kept.clear()
        for path in (self.folder / "lfs").iterdir():
            path.unlink()

    def plan(self, request: str, action: int | str, times: int = 1) -> None:
        self.faults.append(Fault(request, action, times))

    def fault_of(self, request: str) -> int | str | None:
        with self.lock:
            for fault in self.faults:
                if fault.times and re.search(fault.request, request):
                    fault.times -= 1
                    return fault.action
        return None

    def bytes_of(self, file: File) -> bytes:
        """The content of a file, in whichever way it came; xet's is not read here."""
        return file.content if file.content is not None else (self.folder / "lfs" / str(file.sha256)).read_bytes()

    def everything_sent(self) -> bytes:
        """All bytes that clients sent, and all that is stored."""
        stored = [path.read_bytes() for path in self.folder.rglob("*") if path.is_file()]
        commits = [commit for repository in self.repositories.values() for commit in repository.commits]
        small = [file.content for _, files in commits for file in files.values() if file.content is not None]
        return b"".join([*self.bodies, *stored, *small])

    def xet_hash(self, sha256: str) -> str:
        """The name under which the store has a file; the client writes both names into shards."""
        for shard in (self.folder / "cas").rglob("*.mdb"):
            if (found := _read_shard(shard.read_bytes()).get(sha256)) is not None:
                return found
        raise KeyError(sha256)


def _read_shard(data: bytes) -> dict[str, str]:
    """xet hashes by SHA-256: 48 bytes of header, then for each file its hash, its segments, and its SHA-256 last."""
    names, place = {}, 48
    while place + 48 <= len(data) and data[place : place + 32] != b"\xff" * 32:
        file_hash = struct.unpack("<4Q", data[place : place + 32])
        flags, segments = struct.unpack("<II", data[place + 32 : place + 40])
        place += 48 + 48 * segments * (2 if flags >> 31 & 1 else 1)
        if flags >> 30 & 1:
            sha256 = struct.unpack("<4Q", data[place : place + 32])
            names["".join(f"{part:016x}" for part in sha256)] = "".join(f"{part:016x}" for part in file_hash)
            place += 48
    return names
