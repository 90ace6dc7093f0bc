"""Find the line of the user's that sets something of which no event tells: read from the source, once it is needed."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from pytest_celerypool.agent.syntax import last_name, tree_of


class Line(NamedTuple):
    """A line of a source file."""

    filename: str
    number: int
    function: str


def task_line(task: Any) -> Line:
    """Return where a task's function is defined."""
    code = getattr(inspect.unwrap(task.run), "__code__", None)
    if code is None:
        return Line("?", 0, task.name)
    return Line(code.co_filename, code.co_firstlineno, code.co_name)


def find(
    task: Any, filenames: Iterable[str], matches: Callable[[ast.AST], bool], *, at_import: bool = False
) -> Line | None:
    """Return the line that does something, that of the task's own function before those of others.

    :param task: Celery's task.
    :param filenames: further files to look into.
    :param matches: tells the node of the syntax tree.
    :param at_import: whether it may be one of the module's own, in no function.
    """
    own = task_line(task)
    outside = "<module>" if at_import else None
    files = dict.fromkeys((own.filename, *filenames))
    found = [line for filename in files for line in _lines(filename, matches, outside)]
    return min(found, key=lambda line: line[:1] + line[2:] != own[:1] + own[2:], default=None)


def _lines(filename: str, matches: Callable[[ast.AST], bool], outside: str | None) -> list[Line]:
    tree = tree_of(filename)
    if tree is None:
        return []
    found: list[Line] = []

    def visit(node: ast.AST, function: str | None) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node.name
        if function is not None and matches(node):
            found.append(Line(filename, getattr(node, "lineno", 0), function))
        for child in ast.iter_child_nodes(node):
            visit(child, function)

    visit(tree, outside)
    return found


def targets(node: ast.AST) -> list[ast.expr]:
    """Return what a statement assigns to."""
    if isinstance(node, ast.Assign):
        return [one for target in node.targets for one in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return [node.target] if isinstance(node, ast.AugAssign | ast.AnnAssign) else []


def name_of(node: ast.AST) -> str:
    """Return the last name of ``name`` or ``something.name``."""
    return last_name(node) if isinstance(node, ast.expr) else ""


def calls(function: str) -> Callable[[ast.AST], bool]:
    """Return what tells a call ``function(...)``, or ``something.function(...)``."""
    return lambda node: isinstance(node, ast.Call) and name_of(node.func) == function


def calls_method(variable: str, method: str) -> Callable[[ast.AST], bool]:
    """Return what tells a call ``variable.method(...)``."""

    def matches(node: ast.AST) -> bool:
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            return False
        return node.func.attr == method and name_of(node.func.value) == variable

    return matches


def assigns_attribute(variable: str, attribute: str) -> Callable[[ast.AST], bool]:
    """Return what tells ``variable.attribute = ...``."""

    def matches(node: ast.AST) -> bool:
        if isinstance(node, ast.Call) and name_of(node.func) == "setattr" and node.args:
            return name_of(node.args[0]) == variable
        return any(
            isinstance(target, ast.Attribute) and target.attr == attribute and name_of(target.value) == variable
            for target in targets(node)
        )

    return matches


def replaces(owner: str, attribute: str) -> Callable[[ast.AST], bool]:
    """Return what tells ``owner.attribute = ...``, and ``mock.patch("owner.attribute", ...)``.

    :param owner: the dotted name of a module, or the name of a class.
    """
    last, dotted = owner.rpartition(".")[2], f"{owner}.{attribute}"

    def matches(node: ast.AST) -> bool:
        if isinstance(node, ast.Call):
            given = [each.value if isinstance(each, ast.Constant) else name_of(each) for each in node.args[:2]]
            return dotted in given[:1] or given == [last, attribute]
        return any(
            isinstance(target, ast.Attribute) and target.attr == attribute and name_of(target.value) == last
            for target in targets(node)
        )

    return matches


def may_replace(text: str, owner: str, attribute: str) -> bool:
    """Whether a source may have what :func:`replaces` tells: a search of its text, much faster than one of its tree."""
    last = re.escape(owner.rpartition(".")[2])
    assigned = rf"\b{last}\s*\.\s*{attribute}\b(?!\s*[.(\[])"
    return re.search(rf"{assigned}|\b{last}['\"]?\s*,\s*[rRuU]?['\"]{attribute}['\"]", text) is not None


def sets_decimal_context(node: ast.AST) -> bool:
    """Whether something changes the current decimal context."""
    if isinstance(node, ast.Call):
        return name_of(node.func) == "setcontext"
    for target in targets(node):
        if isinstance(target, ast.Attribute) and target.attr in DECIMAL_FIELDS:
            return True
        if isinstance(target, ast.Subscript) and name_of(target.value) == "traps":
            return True
    return False


#: What of a decimal context changes results.
DECIMAL_FIELDS = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")
