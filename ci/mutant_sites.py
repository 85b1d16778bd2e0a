"""Where the code can be broken, and which of those breaks are known to go unnoticed."""

import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from rust_source import Source, normal

WEAKER = {"Acquire": ["Relaxed"], "Release": ["Relaxed"], "AcqRel": ["Acquire", "Release"]}
# A load cannot release, a store cannot acquire.
WEAKER_SEQCST = {"load": "Acquire", "store": "Release"}
DEFAULT_DIRS = ("src/cell", "src/latch", "src/lock_table", "src/lock_table/raw", "src/map", "src/mvcc", "src/reclaim", "src/reclaim/alloc", "src/txn", "src/park")
ALLOWED = "ci/mutants_allowed.toml"
SEMANTIC = "ci/semantic_mutants.toml"
SHORTEST_REASON = 20


class ListError(Exception):
    """A committed list that does not say what it has to."""


@dataclass
class Mutant:
    """One way to break one file. What names it survives reformatting and moves within a function."""

    file: str
    function: str
    text: str  # the call that is changed, on one line; the name of a semantic mutant
    mutation: str  # "Acquire -> Relaxed", "failure Acquire -> Relaxed", "delete", "semantic"
    line: int
    start: int
    end: int
    replacement: str
    nth: int = 1  # among those of one function that read the same

    @property
    def key(self):
        return (self.file, self.function, self.text, self.mutation, self.nth)

    def apply(self, text):
        return text[: self.start] + self.replacement + text[self.end :]

    def __str__(self):
        where = f"{self.file}:{self.line}"
        return f"{where} {self.function or '-'}: {self.mutation}: {self.text}"


def source_files(root, only):
    """The files to break: those named, or all of the protocol modules that are not tests."""
    if only:
        files = [Path(root, name) for name in only]
        if missing := [str(f) for f in files if not f.is_file()]:
            raise ListError(f"no such file: {', '.join(missing)}")
        return [str(f.relative_to(root)) for f in files]
    found = [p for d in DEFAULT_DIRS for p in sorted(Path(root, d).glob("*.rs")) if p.name != "tests.rs"]
    return [str(p.relative_to(root)) for p in found]


def ordering_mutants(source):
    """Each ordering of a file weakened by one step, each fence deleted."""
    yield from sorted([*_weakened(source), *_fences(source)], key=lambda mutant: mutant.start)


def _fences(source):
    # `fence(SeqCst)`, and what wraps one: `store_load_fence()`.
    for m in re.finditer(r"(?<!fn )\b(?:\w+::)*\w*fence\(\s*(?:(?:\w+::)*\w+)?\s*\)", source.code):
        if not source.in_tests(m.start()):
            yield _mutant(source, normal(m.group()), "delete", m.start(), m.end(), "()")


def _weakened(source):
    for site in source.orderings:
        start, end = site.extent
        call = site.call.split("::")[-1]
        text = normal(source.code[start:end])
        if call.endswith("fence"):
            continue
        takes_two = call.startswith(("compare_exchange", "fetch_update", "try_update"))
        is_failure = takes_two and site.index == 1
        if site.word == "SeqCst":
            weaker = ["Acquire" if is_failure else WEAKER_SEQCST.get(call, "AcqRel")]
        else:
            weaker = WEAKER.get(site.word, [])
        for word in weaker:
            mutation = f"{'failure ' if is_failure else ''}{site.word} -> {word}"
            end_of_word = site.start + len(site.word)
            yield _mutant(source, text, mutation, site.start, end_of_word, _like(site, source, word))


def _like(site, source, word):
    """Spells an ordering so that it needs no import: the path before it stays, a bare name gets one."""
    has_path = source.code[: site.start].endswith("::")
    return word if has_path else f"::core::sync::atomic::Ordering::{word}"


def _mutant(source, text, mutation, start, end, replacement):
    line, function = source.line_of(start), source.function_at(start)
    return Mutant(source.path, function, text, mutation, line, start, end, replacement)


def semantic_mutants(root, only):
    """The committed changes of logic."""
    if Path(root, SEMANTIC).exists():
        for _, mutant in changes(root, SEMANTIC, "mutant", only):
            yield mutant


def changes(root, listed, kind, only=None):
    """The entries of the list `listed`, each with its mutant: `old` becomes `new`. `old` must stand in its file exactly once."""
    path = Path(root, listed)
    names = set()
    for entry in _load(path).get(kind, []):
        name, file, old, new = (_field(path, entry, key) for key in ("name", "file", "old", "new"))
        if name in names:
            raise ListError(f"{listed}: {name!r} is there twice")
        names.add(name)
        if not Path(root, file).is_file():
            raise ListError(f"{listed}: {name!r} is for {file}, which does not exist")
        if only and file not in only:
            continue
        source = Source(file, Path(root, file).read_text())
        # Any run of blanks matches any other, so that rustfmt may move the code.
        pattern = r"\s+".join(re.escape(word) for word in old.split())
        found = [m for m in re.finditer(pattern, source.text) if not source.in_tests(m.start())]
        if len(found) != 1:
            raise ListError(f"{listed}: the old text of {name!r} stands {len(found)} times in {file}, not once")
        start, end = found[0].span()
        line, function = source.line_of(start), source.function_at(start)
        yield entry, Mutant(file, function, name, "semantic", line, start, end, new.strip())


def all_mutants(root, only):
    mutants = []
    for file in source_files(root, only):
        mutants += ordering_mutants(Source(file, Path(root, file).read_text()))
    mutants += semantic_mutants(root, only)
    counted = {}
    for mutant in mutants:
        same = mutant.key[:4]
        counted[same] = mutant.nth = counted.get(same, 0) + 1
    return mutants


def allowed(root, only, mutants):
    """Reasons by mutant, and complaints about entries that fit none."""
    path = Path(root, ALLOWED)
    reasons, complaints = {}, []
    known = {mutant.key for mutant in mutants}
    for entry in (_load(path) if path.exists() else {}).get("allowed", []):
        fields = [_field(path, entry, key) for key in ("file", "function", "text", "mutation")]
        key = (*fields, int(entry.get("nth", 1)))
        reason = _field(path, entry, "reason")
        if len(reason.strip()) < SHORTEST_REASON:
            complaints.append(f"{ALLOWED}: a reason of fewer than {SHORTEST_REASON} characters for {describe(key)}")
        if key in reasons:
            complaints.append(f"{ALLOWED}: twice: {describe(key)}")
        if key not in known and (not only or key[0] in only):
            complaints.append(f"{ALLOWED}: stale, nothing in the code fits it: {describe(key)}")
        reasons[key] = reason
    return reasons, complaints


def describe(key):
    file, function, text, mutation, nth = key
    return f"{file} {function}: {mutation}: {text}" + (f" (number {nth})" if nth > 1 else "")


def _load(path):
    try:
        return tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ListError(f"{path.name}: {error}") from error


def _field(path, entry, key):
    value = entry.get(key)
    if not isinstance(value, str):
        raise ListError(f"{path.name}: an entry without {key!r}: {entry}")
    return value


if sys.version_info < (3, 11):
    sys.exit("the mutation scripts need Python 3.11 or later")
