"""The lines of the user's that configure what a pool does not do: read from the source, once something is reported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pytest_celerypool.agent.detectors.holders import user_modules
from pytest_celerypool.agent.detectors.state.sources import name_of, targets, task_line
from pytest_celerypool.agent.syntax import function_at, tree_of

if TYPE_CHECKING:
    from pytest_celerypool.agent.frames import Frames

#: So many lines are named: a setting may be given in a module of settings, and again for one task.
_MOST = 3


def set_at(frames: Frames, task: Any, setting: str, value: object, *, option: str = "") -> list[str]:
    """Return where something that a task goes by may be set, its own module first; as lines of evidence.

    :param task: Celery's task.
    :param setting: the name of Celery's setting; Django's and Celery 3's have it in capitals, with a prefix.
    :param value: what it is set to; lines that give another constant are left out.
    :param option: the name of the option of a task that means the same.
    """
    files = [task_line(task).filename, *(str(module.__file__) for module in user_modules(frames))]
    found: list[str] = []
    for file in dict.fromkeys(files):
        tree = tree_of(file) or ast.Module([], [])
        for line, given in _given(tree, setting, option):
            if not isinstance(given, ast.Constant) or given.value == value:
                function = function_at(tree, line)
                found.append(f"set at {frames.place_of(file, line, '<module>' if function is None else function.name)}")
    return list(dict.fromkeys(found))[:_MOST]


def _given(tree: ast.AST, setting: str, option: str) -> Iterator[tuple[int, ast.expr]]:
    """Yield the lines that give a setting, and what they give it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and _means(node.arg or "", setting, option):
            yield node.value.lineno, node.value
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and _means(str(key.value), setting, option):
                    yield value.lineno, value
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            for target in targets(node):
                if _means(name_of(target), setting, option):
                    yield node.lineno, node.value


def _means(name: str, setting: str, option: str) -> bool:
    return name == option != "" or name.lower().endswith(setting)
