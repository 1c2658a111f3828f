"""Records as a git commit holds them, so that two commits can be compared without checking one out."""

import io
import tarfile
import tempfile
from pathlib import Path

from benchmarks.provenance import git
from benchmarks.records import Record, reported


def records_at(revision: str, results: Path) -> list[Record] | None:
    """Return the records that the report of a results folder reads at a commit; None if no commit is meant.

    Args:
        revision: a commit as git names it: hash, branch, tag, HEAD~3.
        results: the folder; it may be absent from the working tree as long as its parent is there.
    """
    place = results.resolve()
    top = git(place.parent, "rev-parse", "--show-toplevel")
    found = git(place.parent, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if top is None or found is None:
        return None
    root = Path(top.decode().removesuffix("\n"))
    name = place.relative_to(root.resolve()).as_posix()
    content = git(root, "archive", "--format=tar", found.decode().strip(), "--", name)
    return _records(content, name) if content is not None else []  # git archive fails where the commit lacks the folder


def _records(content: bytes, name: str) -> list[Record]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive, tempfile.TemporaryDirectory() as folder:
        for member in archive:
            stream = archive.extractfile(member) if member.isfile() and member.name.endswith(".json") else None
            if stream:
                file = Path(folder) / member.name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(stream.read())
        return reported(Path(folder) / name)
