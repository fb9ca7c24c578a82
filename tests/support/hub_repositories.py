"""What the tests' Hub keeps: repositories of commits of files, and who may write to them."""

import hashlib
from dataclasses import dataclass, field
from itertools import count

_NUMBERS = count()
WRITER, READER = "hf_" + "W" * 34, "hf_" + "R" * 34
OWNER_OF = {WRITER: "someone", READER: "reader"}


@dataclass
class File:
    """A file of a commit: small ones with their content, large ones by their SHA-256."""

    size: int
    content: bytes | None = None
    sha256: str | None = None

    @property
    def oid(self) -> str:
        """As git names the content, or LFS."""
        if self.content is None:
            return str(self.sha256)
        return hashlib.sha1(b"blob %d\0" % self.size + self.content).hexdigest()


@dataclass
class Repository:
    """Commits of one branch, oldest first: (oid, files by path)."""

    private: bool
    commits: list[tuple[str, dict[str, File]]] = field(default_factory=list)

    @property
    def files(self) -> dict[str, File]:
        return self.commits[-1][1]

    def add(self, files: dict[str, File]) -> str:
        oid = hashlib.sha1(str(next(_NUMBERS)).encode()).hexdigest()  # no commit of any repository has it
        self.commits.append((oid, files))
        return oid

    def at(self, revision: str) -> tuple[str, dict[str, File]] | None:
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0] == revision), None)
