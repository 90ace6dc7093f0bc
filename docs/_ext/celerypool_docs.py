"""Directives whose content is the package's own: what the code says is not written a second time."""

from __future__ import annotations

import ast
import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from pytest_celerypool import fixtures, pools, surface
from pytest_celerypool.agent.detectors import BUILT_IN
from pytest_celerypool.policies import format_limit, kinds_of
from pytest_celerypool.verdict.hazards import KINDS

ROOT = Path(__file__).parent.parent.parent
PACKAGE = Path(fixtures.__file__).parent


class Generated(SphinxDirective):
    """A directive that writes reStructuredText, which is then read as if it stood in the page."""

    def lines(self) -> Iterable[str]:
        """Return what the directive stands for."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Read the generated lines."""
        source, line = self.get_source_info()
        content = StringList(list(self.lines()), source=f"{source}:{line}")
        return self.parse_content_to_nodes_from(content)

    def parse_content_to_nodes_from(self, content: StringList) -> list[nodes.Node]:
        """Parse `content`, its headings included."""
        self.content = content
        return self.parse_content_to_nodes(allow_section_headings=True)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], widths: str = "auto") -> Iterator[str]:
    """Yield the lines of a ``list-table``."""
    yield from (".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", "")
    for row in (heads, *rows):
        for number, cell in enumerate(row):
            yield f"   {'* -' if number == 0 else '  -'} {cell}".rstrip()
    yield ""


def default_of(text: str) -> tuple[str, str]:
    """Split the help of an option into what it says and the default in its last brackets."""
    match = re.fullmatch(r"(.*) \(default: (.*)\)", text)
    assert match is not None, text
    return match[1], match[2]


class Options(Generated):
    """Every option with its ini key, meaning and default."""

    def lines(self) -> Iterable[str]:
        """Return a section's worth of options."""
        for name, (metavar, text) in surface.OPTIONS.items():
            meaning, default = default_of(text)
            yield from (
                f".. option:: {surface.option_of(name)}" + (f"={metavar}" if metavar else ""),
                "",
                f"   {meaning}.",
                "",
                f"   Ini key: ``celery_{name}``. Default: {default}.",
                "",
            )


class Defaults(Generated):
    """A table of what holds where nobody says anything."""

    def lines(self) -> Iterable[str]:
        """Return the table."""
        rows = [
            (f"``{surface.option_of(name)}``", f"``celery_{name}``", default_of(text)[1])
            for name, (_, text) in surface.OPTIONS.items()
        ]
        return table(("option", "ini key", "default"), rows)


class Markers(Generated):
    """The line of ``pytest --markers`` about one marker."""

    required_arguments = 1

    def lines(self) -> Iterable[str]:
        """Return the signature, and what it means."""
        (line,) = (line for line in surface.MARKERS if line.startswith(f"{self.arguments[0]}("))
        signature, text = line.split("): ", 1)
        return [f".. py:decorator:: pytest.mark.{signature})", "   :no-index:", "", f"   {text[0].upper()}{text[1:]}"]


class Kinds(Generated):
    """Every kind of finding, with its policy and threshold."""

    def lines(self) -> Iterable[str]:
        """Return the table."""
        kinds = sorted((*KINDS, *(kind for path in BUILT_IN for kind in kinds_of(path))), key=lambda kind: kind.name)
        rows = [
            (
                f"``{kind.name}``",
                kind.text,
                kind.policy,
                "" if kind.limit is None else format_limit(kind.limit, kind.unit),
            )
            for kind in kinds
        ]
        return table(("kind", "what it is", "policy", "threshold"), rows)


class Fixtures(Generated):
    """Every fixture with its scope and docstring."""

    def lines(self) -> Iterable[str]:
        """Return a definition for each."""
        module = ast.parse(Path(fixtures.__file__).read_text(encoding="utf-8"))
        for function in module.body:
            if isinstance(function, ast.FunctionDef) and function.decorator_list:
                scope = (
                    "session" if any("session" in ast.unparse(each) for each in function.decorator_list) else "function"
                )
                yield from (f"``{function.name}`` (scope: {scope})", f"    {ast.get_docstring(function)}", "")


class Pools(Generated):
    """What each pool can and cannot do, from the facts that the plugin itself goes by."""

    def lines(self) -> Iterable[str]:
        """Return the table; after it, which library a pool needs."""
        rows = [
            (text, *("yes" if getattr(pool, fact) else "no" for pool in pools.POOLS), f"``{fact}``")
            for fact, text in pools.FACTS.items()
        ]
        heads = ("", *(pool.name for pool in pools.POOLS), "``Pool``")
        return table(heads, rows, "40 10 10 10 10 10 20")


class Slots(Generated):
    """How many slots a worker of each pool gets by default, on some machines."""

    def lines(self) -> Iterable[str]:
        """Return the table."""
        machines = ((2, 0), (8, 0), (8, 4))
        rows = [
            (pool.name, *(str(pools.default_concurrency(pool, *machine)) for machine in machines))
            for pool in pools.POOLS
        ]
        return table(("pool", "2 processors", "8 processors", "8 processors, ``-n 4``"), rows)


#: What the tests of ``tests/promises`` measured, written by ``--promises``.
MEASURED = ROOT / "docs/promises.csv"


def _measured() -> tuple[str, list[dict[str, str]]]:
    """Return where the table of the promises was measured, and its rows."""
    where, text = MEASURED.read_text(encoding="utf-8").split("\n", 1)
    return where.removeprefix("# "), list(csv.DictReader(text.splitlines()))


class Measured(Generated):
    """The line that says where the promises were measured."""

    def lines(self) -> Iterable[str]:
        """Return the line."""
        return [_measured()[0]]


class Promises(Generated):
    """What the tests of one module of ``tests/promises`` promise, each with a table of what was measured."""

    required_arguments = 1

    def lines(self) -> Iterable[str]:
        """Return for each test its promise, and a table with a column a pool."""
        rows = [row for row in _measured()[1] if row["test"].startswith(f"{self.arguments[0]}::")]
        for _, group in itertools.groupby(rows, key=lambda row: row["test"]):
            of_test = list(group)
            yield from (of_test[0]["promise"], "")
            yield from _by_pool(of_test)


def _by_pool(rows: Sequence[dict[str, str]]) -> Iterator[str]:
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        found.setdefault(row["measured"], {})[row["pool"]] = f"{row['figure']} {row['unit']}"
    order = {pool.name: number for number, pool in enumerate(pools.POOLS)}
    there = sorted(dict.fromkeys(row["pool"] for row in rows), key=lambda name: order.get(name, len(order)))
    cells = [(what, *(figures.get(pool, "") for pool in there)) for what, figures in found.items()]
    return table(("", *there), cells)


class Layers(Generated):
    """The layers in their order, with the first sentence of each module; the order is the one a test holds true."""

    def lines(self) -> Iterable[str]:
        """Return the table, from what users see down to what everything stands on."""
        tree = ast.parse((ROOT / "tests/unit/test_layers.py").read_text(encoding="utf-8"))
        (layers,) = (
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LAYERS"
        )
        rows = [(f"``{name}``", _summary(name)) for layer in reversed(layers) for name in layer]
        return table(("module", "what it does"), rows, "20 80")


def _summary(name: str) -> str:
    path = PACKAGE / f"{name}.py"
    path = path if path.exists() else PACKAGE / name / "__init__.py"
    text = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
    return " ".join(text.split())


class Changelog(Generated):
    """``CHANGELOG.md``: headings, lists and paragraphs are all it has of Markdown."""

    def lines(self) -> Iterable[str]:
        """Return the file but for its title, as reStructuredText."""
        text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("\n", 1)[1]
        text = re.sub(r"`([^`]+)`", r"``\1``", text)
        text = re.sub(r"\[([^\]]+)\]\((https?://[^)]+)\)", r"`\1 <\2>`__", text)
        for line in text.splitlines():
            hashes, _, heading = line.partition(" ")
            if hashes in ("##", "###"):
                heading = heading.strip("[]").replace("] - ", ", ")
                yield from (heading, ("-" if hashes == "##" else "~") * len(heading))
            else:
                yield line


def setup(app: Any) -> dict[str, Any]:
    """Add the directives."""
    for directive in (Options, Defaults, Markers, Kinds, Fixtures, Pools, Slots, Measured, Promises, Layers, Changelog):
        app.add_directive(f"celerypool-{directive.__name__.lower()}", directive)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
