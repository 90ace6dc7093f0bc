"""The matrix at the end of a session: test by pool, as lines for a terminal.

It is made in three steps: cells become rows, rows that say nothing new are folded, and what is left becomes one table,
or, where a terminal is too narrow for all pools side by side, several below each other.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

#: What stands in the table for an outcome; from the best outcome to the worst, which is the order of merging.
_WORDS: Mapping[str, str] = {
    "passed": "ok",
    "skipped": "skip",
    "xfailed": "xfail",
    "xpassed": "xpass",
    "error": "error",
    "failed": "FAIL",
}
_SEVERITY: Mapping[str, int] = {outcome: number for number, outcome in enumerate(_WORDS)}

#: The order in which totals are told: what matters most after ``ok`` comes first.
_TOLD = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")

#: What stands for a pool that a test did not run under.
_NOT_RUN = "-"

_GREEN, _RED, _YELLOW, _BOLD = "32", "31", "33", "1"
_COLORS: Mapping[str, str] = {
    "passed": _GREEN,
    "skipped": _YELLOW,
    "xfailed": _YELLOW,
    "xpassed": _YELLOW,
    "error": _RED,
    "failed": _RED,
}

#: A terminal narrower than this gets lines of this width.
_NARROWEST = 40
#: Up to so many tests, every one has its row.
_UNFOLDED = 20
_INDENT = "  "
_GAP = "  "
#: Where all headings side by side are too much, none has more than this; only a custom pool's is longer.
_LONGEST_HEADING = 16
#: Budgets stand at the ends of the rows only if the tests' names keep this much, else below the rows.
_NAME_BESIDE_BUDGET = 32

#: Keeps a number and its word together where a line is wrapped.
_GLUE = "\N{NO-BREAK SPACE}"

_BUDGET = "nearest budget"
_TOTAL = "total"

_Paint = Callable[[str, str], str]


@dataclass(frozen=True)
class Cell:
    """What became of one test under one pool.

    :param test: the node id without the axis.
    :param column: the axis' id: ``gevent``, ``gevent-100``.
    :param outcome: ``passed``, ``failed``, ``error``, ``skipped``, ``xfailed`` or ``xpassed``.
    :param nearest: the text of the budget that came nearest to its limit; empty if there was none.
    :param share: how much of that budget was used; 1 is its limit.
    """

    test: str
    column: str
    outcome: str
    nearest: str = ""
    share: float = 0.0


def merge(cells: Iterable[Cell]) -> list[Cell]:
    """Join the cells of the same test and column: the worst outcome, and the budget with the greatest share.

    There are several where a test ran on several nodes of xdist.
    """
    merged: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        key = (cell.test, cell.column)
        before = merged.get(key, cell)
        outcome = max(before.outcome, cell.outcome, key=_SEVERITY.__getitem__)
        merged[key] = replace(max(before, cell, key=_closeness), outcome=outcome)
    return list(merged.values())


def render(cells: Iterable[Cell], columns: Sequence[str], *, width: int, verbosity: int, color: bool) -> list[str]:
    """Return the lines of the matrix, none if there are no cells.

    :param cells: as :func:`merge` returns them; rows keep their order of appearance within each file.
    :param columns: the columns in their order; cells of others are left out.
    :param width: of the terminal, in columns.
    :param verbosity: pytest's: below 0 only what failed and one line of totals, from 1 on every test's row.
    :param color: whether lines may have escape codes.
    """
    rows = _rows(cells, columns)
    if not rows:
        return []
    page = _Page(rows, columns, max(width, _NARROWEST), _ansi if color else _plain)
    if verbosity < 0:
        failing = [row for row in rows if row.outcomes & {"failed", "error"}]
        return [*(_tables(page, failing, [], totals=False) if failing else []), *_tally(page)]
    if verbosity > 0 or len(rows) <= _UNFOLDED:
        return _tables(page, rows, [])
    shown, folded = _fold(page)
    return _tables(page, shown, _tell(folded, page.width, beginning="… and " if shown else ""))


# --- rows -------------------------------------------------------------------------------------------------------------


@dataclass
class _Row:
    """A test with its cells by column."""

    test: str
    cells: dict[str, Cell] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """The test's file, empty if its id names none."""
        file, separator, _ = self.test.partition("::")
        return _clean(file) if separator else ""

    @property
    def name(self) -> str:
        """The test within its file."""
        return _clean(self.test.partition("::")[2] or self.test)

    @property
    def outcomes(self) -> set[str]:
        return {cell.outcome for cell in self.cells.values()}

    @property
    def nearest(self) -> Cell | None:
        """The cell whose budget came nearest to its limit."""
        judged = [cell for cell in self.cells.values() if cell.nearest]
        return max(judged, key=_closeness, default=None)


def _rows(cells: Iterable[Cell], columns: Sequence[str]) -> list[_Row]:
    """Return the rows in order of appearance, those of a file together."""
    rows: dict[str, _Row] = {}
    for cell in cells:
        if cell.column in columns:
            rows.setdefault(cell.test, _Row(cell.test)).cells[cell.column] = cell
    files: dict[str, list[_Row]] = {}
    for row in rows.values():
        files.setdefault(row.file, []).append(row)
    return [row for file in files.values() for row in file]


@dataclass(frozen=True)
class _Page:
    """All rows, and what they are to be written on."""

    rows: Sequence[_Row]
    columns: Sequence[str]
    width: int
    paint: _Paint

    def count(self, column: str) -> Counter[str]:
        """Return how many tests had each outcome under a pool."""
        return Counter(row.cells[column].outcome for row in self.rows if column in row.cells)


def _closeness(cell: Cell) -> tuple[bool, float]:
    return bool(cell.nearest), cell.share


# --- folding ----------------------------------------------------------------------------------------------------------


def _fold(page: _Page) -> tuple[list[_Row], dict[str, list[_Row]]]:
    """Return the rows to show, and the others by what is to be said of them."""
    # A pool that skips every test (its library is missing) would keep every row from being folded.
    idle = [column for column in page.columns if set(page.count(column)) == {"skipped"}]
    shown: list[_Row] = []
    folded: dict[str, list[_Row]] = {}
    for row in page.rows:
        text = _uniform(row, page.columns, idle)
        if text is None:
            shown.append(row)
        else:
            folded.setdefault(text, []).append(row)
    return shown, folded


def _uniform(row: _Row, columns: Sequence[str], idle: Collection[str]) -> str | None:
    """Return what is to be said of a row that is the same under every pool, ``None`` if it is not."""
    pools = "every pool" if len(row.cells) == len(columns) else "the pools they are for"
    if row.outcomes == {"skipped"}:
        return f"skipped under {pools}"
    if {cell.outcome for column, cell in row.cells.items() if column not in idle} != {"passed"}:
        return None
    skipping = [_clean(column) for column in idle if column in row.cells]
    return f"ok under {pools}" + (f" but {', '.join(skipping)}" if skipping else "")


def _tell(folded: Mapping[str, Sequence[_Row]], width: int, *, beginning: str) -> list[str]:
    """Return the lines that stand for the folded rows, and the budget among them that was nearest to its limit."""
    lines: list[str] = []
    for text, rows in sorted(folded.items(), key=lambda entry: -len(entry[1])):
        several = "test" if len(rows) == 1 else "tests"
        lines += _wrap(f"{beginning}{len(rows)} {several}: {text}", width)
        beginning = "… and "
    judged = [row.nearest for rows in folded.values() for row in rows if row.nearest is not None]
    if judged:
        nearest = max(judged, key=_closeness)
        lines += _wrap(f"{_BUDGET} among these: {_budget(nearest)}, {_clean(nearest.test)}", width, _INDENT)
    return lines


# --- tables -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    """A table's measures.

    :param columns: those of this table, with their widths.
    :param name: the width of the first column, its indentation included.
    :param beside: whether budgets stand at the ends of the rows.
    :param brief: whether these leave out what they have in brackets.
    """

    columns: Mapping[str, int]
    name: int
    width: int
    beside: bool
    brief: bool
    paint: _Paint

    def line(self, first: str, cells: Iterable[tuple[str, str]], last: str = "") -> str:
        """Return a line of a first column that fits, of a text and a colour for each column, and of a last text."""
        parts = [_pad(first, self.name)]
        for (text, color), width in zip(cells, self.columns.values(), strict=True):
            parts.append(_GAP + " " * (width - _columns(text)) + self.paint(text, color))
        if last:
            parts.append(_GAP + last)
        return "".join(parts).rstrip()

    def heading(self, first: str) -> str:
        """Return the line of the columns' names."""
        names = [(_shorten(_clean(column), width), _BOLD) for column, width in self.columns.items()]
        return self.line(_shorten(first, self.name), names, self.paint(_BUDGET, _BOLD) if self.beside else "")

    def row(self, row: _Row) -> list[str]:
        """Return a test's line, and perhaps one more for its budget."""
        name = _INDENT + _shorten_test(row.name, self.name - len(_INDENT))
        cells = [_look(row.cells.get(column)) for column in self.columns]
        nearest = row.nearest
        if nearest is None or nearest.column not in self.columns:
            return [self.line(name, cells)]
        if self.beside:
            return [self.line(name, cells, _budget(nearest, self.brief))]
        return [self.line(name, cells), *self._below(nearest)]

    def _below(self, nearest: Cell) -> list[str]:
        text = f"{_INDENT * 2}{_BUDGET}: {_budget(nearest)}"
        if _columns(text) > self.width:
            text = f"{_INDENT * 2}{_BUDGET}: {_budget(nearest, brief=True)}"
        return [_shorten(text, self.width)]

    def totals(self, page: _Page) -> Iterator[str]:
        """Yield a line for each outcome that any test of the page had: how many had it under each pool."""
        counts = [page.count(column) for column in self.columns]
        for outcome in _TOLD:
            if outcome != "passed" and not any(outcome in row.outcomes for row in page.rows):
                continue
            cells = [(str(count[outcome]), _COLORS[outcome] if count[outcome] else "") for count in counts]
            yield self.line(f"{_TOTAL} {_WORDS[outcome]}", cells)


def _tables(page: _Page, shown: Sequence[_Row], told: Sequence[str], *, totals: bool = True) -> list[str]:
    """Return the tables' lines.

    :param shown: the rows with a line of their own.
    :param told: the lines that stand for the others.
    """
    files = {row.file for row in page.rows}
    only_file = files.pop() if len(files) == 1 else ""
    lines: list[str] = []
    tables = _layout(page, shown, only_file)
    for number, table in enumerate(tables, 1):
        lines += [] if number == 1 else [""]
        lines.append(table.heading(only_file))
        lines += _body(table, shown, headed=bool(only_file))
        lines += told if number == len(tables) else []
        lines += table.totals(page) if totals else []
    return lines


def _body(table: _Table, shown: Iterable[_Row], *, headed: bool) -> Iterator[str]:
    """Yield the tests' lines, below the names of their files unless all are in one."""
    file = ""
    for row in shown:
        if not headed and row.file != file:
            yield _shorten(row.file, table.width)
        file = row.file
        yield from table.row(row)


def _layout(page: _Page, shown: Sequence[_Row], only_file: str) -> list[_Table]:
    """Return as few tables as hold all columns side by side."""
    labels = [only_file, *(f"{_TOTAL} {word}" for word in _WORDS.values()), *(_INDENT + row.name for row in shown)]
    longest = max(map(_columns, labels))
    room = page.width - min(longest, page.width * 2 // 5)
    widths = {column: _column_width(page, column) for column in page.columns}
    if sum(widths.values()) + len(_GAP) * len(widths) > room:
        widths = {column: min(each, _LONGEST_HEADING) for column, each in widths.items()}
    return [_measure(page, shown, block, longest) for block in _blocks(widths, room)]


def _column_width(page: _Page, column: str) -> int:
    counts = page.count(column)
    texts = [_clean(column), *(_WORDS[outcome] for outcome in counts), *map(str, counts.values())]
    return max(map(_columns, texts))


def _blocks(widths: Mapping[str, int], room: int) -> Iterator[dict[str, int]]:
    """Yield the columns in lots that fit side by side into `room`."""
    block: dict[str, int] = {}
    for column, width in widths.items():
        if block and sum(block.values()) + width + len(_GAP) * (len(block) + 1) > room:
            yield block
            block = {}
        block[column] = width
    yield block


def _measure(page: _Page, shown: Sequence[_Row], block: Mapping[str, int], longest: int) -> _Table:
    """Return the table of a block: budgets beside the rows, in full or in brief, if the names allow it, else below."""
    room = page.width - sum(block.values()) - len(_GAP) * len(block)
    nearest = [row.nearest for row in shown if row.nearest is not None and row.nearest.column in block]
    for brief in (False, True) if nearest else ():
        texts = [_BUDGET, *(_budget(cell, brief) for cell in nearest)]
        left = room - len(_GAP) - max(map(_columns, texts))
        if left >= min(longest, _NAME_BESIDE_BUDGET):
            return _Table(block, min(longest, left), page.width, beside=True, brief=brief, paint=page.paint)
    return _Table(block, min(longest, room), page.width, beside=False, brief=False, paint=page.paint)


def _look(cell: Cell | None) -> tuple[str, str]:
    return (_NOT_RUN, "") if cell is None else (_WORDS[cell.outcome], _COLORS[cell.outcome])


def _budget(cell: Cell, brief: bool = False) -> str:
    """Return a budget's text with its pool; in brief, without what it has in brackets."""
    text = re.sub(r"\s*\([^()]*\)", "", cell.nearest) if brief else cell.nearest
    return _clean(f"{text} {cell.column}")


# --- one line of totals -----------------------------------------------------------------------------------------------


def _tally(page: _Page) -> list[str]:
    """Return all totals in a line, pools with the same ones together; more lines only if something is not ok."""
    pools: dict[str, list[str]] = {}
    for column in page.columns:
        counts = page.count(column)
        text = ", ".join(f"{counts[outcome]}{_GLUE}{_WORDS[outcome]}" for outcome in _TOLD if counts[outcome])
        pools.setdefault(text or "no test", []).append(_clean(column))
    line = "celery pools: " + "; ".join(f"{text} under {', '.join(names)}" for text, names in pools.items())
    if _columns(line) > page.width and all(row.outcomes == {"passed"} for row in page.rows):
        count = len(page.rows)
        line = f"celery pools: {count} test{'s' if count > 1 else ''}, all ok"
    return [_paint_tally(line, page.paint) for line in _wrap(line, page.width, _INDENT)]


def _paint_tally(line: str, paint: _Paint) -> str:
    for outcome, word in _WORDS.items():
        pieces = re.split(rf"(\d+{_GLUE}{word}\b)", line)
        line = "".join(paint(piece, _COLORS[outcome]) if number % 2 else piece for number, piece in enumerate(pieces))
    return line.replace(_GLUE, " ")


# --- text -------------------------------------------------------------------------------------------------------------


def _ansi(text: str, color: str) -> str:
    return f"\x1b[{color}m{text}\x1b[0m" if color else text


def _plain(text: str, color: str) -> str:
    return text


def _clean(text: str) -> str:
    """Return a text in which what would move the cursor, or cannot be seen, is escaped."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _columns(text: str) -> int:
    """Return how many columns of a terminal a printable text takes."""
    return len(text) if text.isascii() else sum(map(_columns_of, text))


def _columns_of(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):  # accents on the character before
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _columns(text))


def _shorten(text: str, width: int) -> str:
    """Return a text of at most `width` columns, cut in its middle; its end, which tells more, keeps more."""
    if _columns(text) <= width:
        return text
    head = _cut(text, (width - 1) * 2 // 5)
    tail = _cut(text[::-1], width - 1 - _columns(head))[::-1]
    return f"{head}…{tail}"


def _cut(text: str, width: int) -> str:
    """Return as much of the beginning of a text as `width` columns hold."""
    taken = 0
    for number, character in enumerate(text):
        taken += _columns_of(character)
        if taken > width:
            return text[:number]
    return text


def _shorten_test(name: str, width: int) -> str:
    """Return a test's name of at most `width` columns, of which its parameters take no more than they have to."""
    if _columns(name) <= width:
        return name
    function, bracket, parameters = name.partition("[")
    if not bracket:
        return _shorten(name, width)
    share = max(width // 2, width - _columns(function))
    parameters = _shorten(bracket + parameters, share)
    return _shorten(function, width - _columns(parameters)) + parameters


def _wrap(text: str, width: int, indent: str = "") -> list[str]:
    """Return the lines of a text; all but the first are indented, a word that is too long is cut in its middle."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        if line.strip() and _columns(line) + 1 + _columns(word) > width:
            lines.append(line)
            line = indent
        room = width - len(indent)
        line += (" " if line.strip() else "") + _shorten(word, room)
    return [*lines, line]
