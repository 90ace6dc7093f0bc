"""What the user's code reads and writes, in the order in which it does so: before the point where a task stands, after.

The syntax of a function becomes a list of steps. Functions of the project that it calls are followed. Each step carries
the branches that it lies in; a step ahead of a point is certain if the point lies in all of them.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Sequence
from typing import Any

from pytest_celerypool.agent.detectors.code.expressions import MOST_STEPS, Expressions
from pytest_celerypool.agent.detectors.code.places import (
    ABSENT,
    ALL,
    FRESH,
    UNKNOWN,
    Place,
    Scope,
    method_of,
    place_of,
    resolve,
    resolve_callable,
)
from pytest_celerypool.agent.detectors.code.steps import Label, Step, Walk, bound_twice, is_whole, reads_of, scope_of

__all__ = ["Flow", "Label", "Step", "reads_of", "scope_of"]


class Flow(Expressions):
    """The steps of one function."""

    def run(self, code: types.CodeType, scope: Scope, *, live: bool) -> bool:
        """Make the steps of a function; returns whether its source is known.

        :param live: whether `scope` has the locals of a frame that runs, and they are not to be worked out.
        """
        node = self._sources.node(code)
        if node is None:
            return False
        changing = bound_twice(node)
        scope.names = {name: value for name, value in scope.names.items() if name not in changing}
        scope.closed = frozenset({*code.co_varnames, *code.co_cellvars, *code.co_freevars}) - set(scope.names)
        outer = self._code, self._path
        self._code = code
        self._following.append(code)
        self._block(node.body, Walk(scope, live=live, changing=changing))
        self._following.pop()
        self._code, self._path = outer
        return True

    # -- statements

    def _block(self, body: Sequence[ast.stmt], walk: Walk) -> bool:
        """Walk statements; returns whether they may be left before their end."""
        left = False
        for statement in body:
            if len(self.steps) > MOST_STEPS:
                return True
            if self._statement(statement, walk):
                left = True
        return left

    def _statement(self, node: ast.stmt, walk: Walk) -> bool:
        method = getattr(self, "_on_" + type(node).__name__, None)
        return bool(method(node, walk)) if method is not None else False

    def _on_Expr(self, node: ast.Expr, walk: Walk) -> None:  # noqa: N802 - after the class of the node
        self._expression(node.value, walk)

    def _on_Assert(self, node: ast.Assert, walk: Walk) -> None:  # noqa: N802
        self._expression(node.test, walk)

    def _on_Return(self, node: ast.Return, walk: Walk) -> bool:  # noqa: N802
        if node.value is not None:
            self._expression(node.value, walk)
            self._used(node.value, walk)
        return True

    def _on_Raise(self, node: ast.Raise, walk: Walk) -> bool:  # noqa: N802
        if node.exc is not None:
            self._expression(node.exc, walk)
        return True

    def _on_Break(self, node: ast.Break, walk: Walk) -> bool:  # noqa: N802
        return True

    _on_Continue = _on_Break  # noqa: N815

    def _on_Assign(self, node: ast.Assign, walk: Walk) -> None:  # noqa: N802
        self._assign(node.targets, node.value, walk)

    def _on_AnnAssign(self, node: ast.AnnAssign, walk: Walk) -> None:  # noqa: N802
        if node.value is not None:
            self._assign([node.target], node.value, walk)

    def _on_AugAssign(self, node: ast.AugAssign, walk: Walk) -> None:  # noqa: N802
        self._expression(node.target, walk)
        place = place_of(node.target, walk.scope)
        self._expression(node.value, walk)
        if place is not None:
            self._write(place, node, UNKNOWN, frozenset({place.identity}), "+=")

    def _on_Delete(self, node: ast.Delete, walk: Walk) -> None:  # noqa: N802
        for target in node.targets:
            if isinstance(target, ast.Subscript):
                self._mark("enter", target)
                self._mark("leave", target)
            place = place_of(target, walk.scope)
            if place is not None:
                self._write(place, node, ABSENT, frozenset(), "del")
            elif is_whole(target) and isinstance(
                base := resolve(target.value, walk.scope),  # type: ignore[attr-defined]
                list,
            ):
                self._write(Place(base, ALL), node, FRESH, frozenset(), "clear")

    def _on_ClassDef(self, node: ast.ClassDef, walk: Walk) -> None:  # noqa: N802
        """A class that is made as a task runs: its base may keep it (``__init_subclass__``)."""
        for each in node.bases:
            base = resolve(each, walk.scope)
            hook = method_of(base, "__init_subclass__") if isinstance(base, type) else None
            if isinstance(hook, types.FunctionType) and self._is_user(hook.__code__.co_filename):
                given = {keyword.arg: resolve(keyword.value, walk.scope) for keyword in node.keywords if keyword.arg}
                self._mark("enter", node)
                self._enter(hook, {name: value for name, value in given.items() if value is not UNKNOWN})
                self._mark("leave", node)

    def _on_If(self, node: ast.If, walk: Walk) -> bool:  # noqa: N802
        reads = self._tested(node.test, walk)
        number = self._branch()
        left = [self._arm(number, "then", node.body, walk, reads), self._arm(number, "else", node.orelse, walk, reads)]
        if any(left):
            self._rest(number, reads)
        return any(left)

    def _on_While(self, node: ast.While, walk: Walk) -> bool:  # noqa: N802
        reads = self._tested(node.test, walk)
        return self._loop(node.body, node.orelse, walk, reads)

    def _on_For(self, node: ast.For, walk: Walk) -> bool:  # noqa: N802
        self._expression(node.iter, walk)
        self._used(node.iter, walk)
        # A generator runs at the one to begin with, then at the whole statement; from Python 3.14 on always at the one.
        for part in (node.iter, node):
            self._mark("enter", part)
            self._mark("leave", part)
        return self._loop(node.body, node.orelse, walk, [])

    def _loop(self, body: list[ast.stmt], orelse: list[ast.stmt], walk: Walk, reads: list[Step]) -> bool:
        number = self._branch()
        self._arm(number, "loop", body, walk, reads)
        self._block(orelse, walk)
        left = any(isinstance(each, ast.Return | ast.Raise) for part in body for each in ast.walk(part))
        if left:
            self._rest(number, reads)
        return left

    def _on_With(self, node: ast.With, walk: Walk) -> bool:  # noqa: N802
        managers = []
        for item in node.items:
            self._expression(item.context_expr, walk)
            managers.append(self._manager(item.context_expr, walk))
        left = self._block(node.body, walk)
        for manager in managers:
            self.steps += manager
        return left

    def _manager(self, node: ast.expr, walk: Walk) -> list[Step]:
        """Step into a context manager; returns the steps that leave it."""
        self._mark("enter", node)
        leaving: list[Step] = []
        value = resolve(node, walk.scope)
        if value is not UNKNOWN and value is not FRESH:
            self._use(value, node, "with")
            entered, left = (self._method_of_manager(value, name) for name in ("__enter__", "__exit__"))
            if entered is not None and left is not None:
                self._enter(entered, {entered.__code__.co_varnames[0]: value})
                first = len(self.steps)
                self._enter(left, {left.__code__.co_varnames[0]: value})
                leaving = self.steps[first:]
                del self.steps[first:]
        if isinstance(node, ast.Call):
            function = getattr(resolve_callable(node.func, walk.scope), "__wrapped__", None)
            if isinstance(function, types.FunctionType) and self._is_user(function.__code__.co_filename):
                first = len(self.steps)
                self._follow(function, node, walk)
                inner = self.steps[first:]
                cut = next((place for place, step in enumerate(inner) if step.kind == "yield"), len(inner))
                del self.steps[first + cut :]
                leaving = [step for step in inner[cut:] if step.kind != "yield"]
        self._mark("leave", node)
        return leaving

    def _method_of_manager(self, manager: Any, name: str) -> types.FunctionType | None:
        method = method_of(manager, name)
        known = isinstance(method, types.FunctionType) and self._is_user(method.__code__.co_filename)
        return method if known and method.__code__.co_argcount else None

    def _on_Try(self, node: ast.Try, walk: Walk) -> bool:  # noqa: N802
        first = len(self.steps)
        left = self._block(node.body, walk)
        reads = [step for step in self.steps[first:] if step.kind == "read"]
        number = self._branch()
        arms = [
            self._arm(number, f"except {place}", each.body, walk, reads) for place, each in enumerate(node.handlers)
        ]
        left = self._block(node.orelse, walk) or left
        if left or any(arms):
            # After a ``return`` in the body only a handler goes on: what follows depends on what the body read.
            self._rest(number, reads if left else [])
        return self._block(node.finalbody, walk) or left or any(arms)

    # -- branches

    def _arm(self, number: int, name: str, body: Sequence[ast.stmt], walk: Walk, reads: list[Step]) -> bool:
        outer, label = self._path, (number, name)
        self._path = (*outer, label)
        self.tests[label] = reads
        left = self._block(body, walk)
        self._path = outer
        return left

    def _rest(self, number: int, reads: list[Step]) -> None:
        """What follows in this function is done only if it was not left in the branch."""
        label = (number, "rest")
        self.tests[label] = reads
        self._path = (*self._path, label)
