"""A copy of the working tree in which files may be broken, and which models run which of them."""

import os
import signal
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Models of the ground the others stand on run none of the code that is broken here.
GROUND = "litmus"

# What code a file of models runs, by the start of its name: only its mutants are shown to it. The first that fits.
RUNS = (("map", ("src/map/", "src/mvcc/room.rs")), ("cell", ("src/cell/", "src/mvcc/", "src/reclaim/", "src/park/")), ("txn", ("src/cell/", "src/mvcc/", "src/txn/", "src/reclaim/", "src/park/")), ("latch", ("src/latch/", "src/park/")), ("session", ("src/session/", "src/deadlock/", "src/lock_table/", "src/word/", "src/park/")), ("", ("src/lock_table/", "src/word/", "src/park/", "src/reclaim/")))


def concerns(name, file):
    """Whether models in the file `name` run code of `file`."""
    return file.startswith(next(folders for start, folders in RUNS if name.startswith(start)))


class Checkout:
    """Files of the tree, somewhere else; what is built there stays between runs."""

    def __init__(self, path):
        self.path = Path(path)
        self.models = self.path / "loom-tests"

    def sync(self):
        """Makes the copy equal to the tracked and the new files of the tree, and touches nothing that is."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True,
        ).stdout.decode().split("\0")  # fmt: skip
        wanted = {name for name in listed if name and (ROOT / name).is_file()}
        for name in wanted:
            data, target = (ROOT / name).read_bytes(), self.path / name
            if not target.is_file() or target.read_bytes() != data:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
                target.chmod((ROOT / name).stat().st_mode)
        for path in self.path.rglob("*"):
            name = path.relative_to(self.path)
            ignored = "target" in name.parts or ".loom" in name.parts
            if path.is_file() and not ignored and str(name) not in wanted:
                path.unlink()

    def model_files(self):
        return [t.stem for t in sorted(self.models.glob("tests/*.rs")) if not t.stem.startswith(GROUND)]


def kill(child):
    """Ends a process that has a session of its own, and all that it began."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
