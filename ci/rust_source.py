"""Just enough of Rust's syntax to tell code from comments, for the scripts of this folder.

Not a parser: it knows comments, strings, brackets, attributes and the word `fn`. That suffices because the
code it reads is formatted by rustfmt and compiles.
"""

import bisect
import re
from dataclasses import dataclass
from functools import cached_property

ORDERINGS = ("Relaxed", "Acquire", "Release", "AcqRel", "SeqCst")
_WORD = "|".join(ORDERINGS)
# `Ordering::X` anywhere; a bare X only where an argument or a branch's value can stand, because other types
# may share its name.
_SITE = re.compile(rf"\bOrdering::(?P<path>{_WORD})\b|(?<=[(,{{])\s*(?P<bare>{_WORD})(?=\s*[,)}}])")
_OPEN, _CLOSE = "([{", ")]}"


@dataclass(frozen=True)
class OrderingSite:
    """One ordering in code: `word` stands at `start`, in the call (or else the statement) `extent`."""

    word: str
    start: int
    extent: tuple
    call: str  # name of the called function, "" outside a call
    index: int  # among the orderings of the same call


class Source:
    """The text of one file, and views of it with the same offsets."""

    def __init__(self, path, text):
        self.path, self.text = path, text
        self.code, self.comments = _split(text)
        self._lines = [0] + [m.end() for m in re.finditer("\n", text)]

    def line_of(self, offset):
        return bisect.bisect_right(self._lines, offset)

    def line_text(self, line, view=None):
        view = self.text if view is None else view
        end = self._lines[line] if line < len(self._lines) else len(view)
        return view[self._lines[line - 1] : end].rstrip("\n")

    @property
    def line_count(self):
        return len(self._lines)

    @cached_property
    def literals(self):
        """(start, end) of each string literal, quotes included; character literals are left out."""
        found, at = [], 0
        while m := _LEX.search(self.text, at):
            at = _block_end(self.text, m.start()) if m.group("block") else m.end()
            if m.group("string") or m.group("raw"):
                found.append((m.start(), at))
        return found

    @cached_property
    def functions(self):
        """(name, start, end) of each function with a body, outer before inner."""
        found = []
        for m in re.finditer(r"\bfn\s+(\w+)", self.code):
            body = self._body(m.end())
            if body is not None:
                found.append((m.group(1), m.start(), body))
        return found

    def function_at(self, offset):
        names = [name for name, start, end in self.functions if start <= offset < end]
        return names[-1] if names else ""

    @cached_property
    def test_spans(self):
        """Items that exist only in tests."""
        spans = []
        for m in re.finditer(r"#\[(?:cfg\((?:all\()?test\b[^\]]*|test)\]", self.code):
            spans.append((m.start(), self._item_end(m.end())))
        return spans

    def in_tests(self, offset):
        return any(start <= offset < end for start, end in self.test_spans)

    def in_use(self, offset):
        """Whether the offset lies in a `use` declaration."""
        start = self.statement_start(offset, through_braces=True)
        return re.match(r"\s*(?:pub(?:\([^)]*\))?\s+)?use\b", self.code[start:]) is not None

    def statement_start(self, offset, through_braces=False):
        """Where the statement around `offset` begins: after the last `;`, or the last brace, outside brackets."""
        depth, at = 0, offset
        while at > 0:
            c = self.code[at - 1]
            if c in ")]" or (through_braces and c == "}"):
                depth += 1
            elif c in "([" or (through_braces and c == "{"):
                if depth == 0 and c == "{" and not re.search(r"::\s*$", self.code[: at - 1]):
                    break
                depth = max(depth - 1, 0)
            elif depth == 0 and (c == ";" or c in "{}"):
                break
            at -= 1
        return at + len(self.code[at:offset]) - len(self.code[at:offset].lstrip())

    @cached_property
    def orderings(self):
        """Every ordering in code that is not a test and not an import, in order of appearance."""
        sites, seen = [], {}
        for m in _SITE.finditer(self.code):
            group = "path" if m.group("path") else "bare"
            word, start = m.group(group), m.start(group)
            if self.in_tests(start) or self.in_use(start):
                continue
            extent, call = self._call(m.start())
            index = seen.get(extent, 0)
            seen[extent] = index + 1
            sites.append(OrderingSite(word, start, extent, call, index))
        return sites

    def _call(self, offset):
        """The innermost call around the offset, with the path or name of what is called."""
        depth, at = 0, offset
        while at > 0:
            at -= 1
            c = self.code[at]
            if c in _CLOSE:
                depth += 1
            elif c in _OPEN:
                if depth > 0:
                    depth -= 1
                    continue
                name = re.search(r"((?:\w+::)*\w+)\s*$", self.code[:at])
                if c == "(" and name:
                    return (name.start(), self._closing(at) + 1), name.group(1)
                break
            elif c == ";" and depth == 0:
                break
        start = self.statement_start(offset)
        end = re.compile(r"[;{}]|$").search(self.code, offset).start()
        return (start, end), ""

    def _closing(self, at):
        depth = 0
        for i in range(at, len(self.code)):
            if self.code[i] in _OPEN:
                depth += 1
            elif self.code[i] in _CLOSE:
                depth -= 1
                if depth == 0:
                    return i
        return len(self.code) - 1

    def _body(self, at):
        """End of the `{...}` that follows a signature, None if there is none."""
        depth = 0
        for i in range(at, len(self.code)):
            c = self.code[i]
            if c in "([":
                depth += 1
            elif c in ")]":
                depth -= 1
            elif depth == 0 and c == ";":
                return None
            elif depth == 0 and c == "{":
                return self._closing(i) + 1
        return None

    def _item_end(self, at):
        """End of the item after an attribute: its braces, or its semicolon."""
        while m := re.compile(r"\s*#\[").match(self.code, at):
            at = self._closing(m.end() - 1) + 1
        end = self._body(at)
        semicolon = self.code.find(";", at)
        return end if end is not None else (semicolon + 1 if semicolon >= 0 else len(self.code))


_LEX = re.compile(
    r"""
      (?P<line>//[^\n]*)
    | (?P<block>/\*)
    | (?P<raw>\b[bc]?r(?P<hash>\#*)".*?"(?P=hash))
    | (?P<string>\b[bc]?"(?:\\.|[^"\\])*"|"(?:\\.|[^"\\])*")
    | (?P<char>\bb?'(?:\\(?:x[0-9a-fA-F]{2}|u\{[^}]*\}|.)|[^'\\\n])'|'(?:\\(?:x[0-9a-fA-F]{2}|u\{[^}]*\}|.)|[^'\\\n])')
    """,
    re.VERBOSE | re.DOTALL,
)


def _blank(text):
    return re.sub(r"[^\n]", " ", text)


def _block_end(text, start):
    """End of the block comment that starts at `start`; block comments nest."""
    depth, end = 1, start + 2
    while depth and (n := re.compile(r"/\*|\*/").search(text, end)):
        depth, end = depth + (1 if n.group() == "/*" else -1), n.end()
    return end


def _split(text):
    """The code without comments and literals, and the comments alone; both as long as the text."""
    code, comments, at = [], [], 0
    while m := _LEX.search(text, at):
        start, end = m.start(), m.end()
        if m.group("block"):
            end = _block_end(text, start)
        token = text[start:end]
        code += [text[at:start], _blank(token)]
        is_comment = m.group("line") or m.group("block")
        comments += [_blank(text[at:start]), token if is_comment else _blank(token)]
        at = end
    return "".join(code + [text[at:]]), "".join(comments + [_blank(text[at:])])


def normal(text):
    """A piece of code on one line, as rustfmt might break it anywhere."""
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"\s*([(){}\[\].,;])\s*", r"\1", text)
    return re.sub(r",([)\]}])", r"\1", text).replace(",", ", ")
