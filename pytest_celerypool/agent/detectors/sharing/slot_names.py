"""Lines that take the number of a slot out of the name that a pool gives its threads or processes.

``ForkPoolWorker-2``, ``ThreadPoolExecutor-0_1``, ``Dummy-7``, ``GreenThread-7``, ``MainThread``: each pool has names of
its own, and what reads one of them fails under the others.
"""

from __future__ import annotations

import ast

from pytest_celerypool.agent.syntax import function_at

#: Attributes of a record of ``logging`` that name its slot.
_OF_RECORDS = frozenset({"threadName", "processName"})

#: What returns a slot, and the attributes that name it.
_SLOTS = frozenset({"current_thread", "currentThread", "current_process", "main_thread"})
_NAMES = frozenset({"name", "index", "_identity", "getName"})


def slot_name_in(tree: ast.AST | None, line: int) -> str | None:
    """Return the expression by which a line reads the name of its slot, itself or by way of a local name.

    ``None`` if it does not, or if the line raises an exception by its own will.

    :param tree: the syntax of the file.
    """
    function = function_at(tree, line) if tree is not None else None
    statements = [
        node
        for node in (ast.walk(function) if function is not None else ())
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    innermost = max(statements, key=lambda node: (node.lineno, -(node.end_lineno or 0)), default=None)
    if function is None or innermost is None or isinstance(innermost, ast.Raise | ast.FunctionDef):
        return None
    used = {node.id for node in ast.walk(innermost) if isinstance(node, ast.Name)}
    assigned = [
        node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        for target in node.targets
        for each in ast.walk(target)
        if isinstance(each, ast.Name) and each.id in used
    ]
    found = (_slot_name(node) for root in (innermost, *assigned) for node in ast.walk(root))
    return next((text for text in found if text is not None), None)


def _slot_name(node: ast.AST) -> str | None:
    if not isinstance(node, ast.Attribute):
        return None
    called = node.value.func if isinstance(node.value, ast.Call) else None
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return ast.unparse(node) if node.attr in _OF_RECORDS or (node.attr in _NAMES and name in _SLOTS) else None
