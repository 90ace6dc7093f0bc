"""What the user's code reads and writes, in the order in which it does so: before the point where a task stands, after.

The syntax of a function becomes a list of steps. Functions of the project that it calls are followed. Each step carries
the branches that it lies in; a step ahead of a point is certain if the point lies in all of them.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Sequence
from typing import Any

from pytest_celerypool.agent.detectors.places import (
    ABSENT,
    ALL,
    FRESH,
    UNKNOWN,
    Place,
    Scope,
    Sources,
    attribute_of,
    item_place,
    method_of,
    place_of,
    resolve,
    resolve_callable,
)

#: How deep calls are followed, and how many steps of one task are looked at.
DEEPEST = 4
MOST_STEPS = 1500

_ADDING = {"append", "add", "extend", "insert", "appendleft", "put", "put_nowait", "update", "setdefault"}
_TAKING = {"pop", "popitem", "remove", "discard", "popleft", "get_nowait"}
_LOOKING = {"get", "pop", "setdefault"}

#: Functions that do not look at what an object holds.
_BLIND = {"len", "id", "isinstance", "type", "bool", "hasattr", "callable"}

#: A branch: which test, and which of its outcomes.
Label = tuple[int, str]


class Step:
    """One thing that code does.

    :ivar kind: ``"read"`` or ``"write"`` of :attr:`place`, ``"use"`` of an object as a whole (:attr:`value`),
        ``"enter"`` and ``"leave"`` around a call or whatever else may wait.
    :ivar value: what is written, as far as it is known; the object that is used.
    :ivar sources: of a write: the identities of places that the value was made from.
    :ivar how: the method or syntax by which it is done.
    :ivar tested: of a read: whether what is done next depends on what was read.
    """

    __slots__ = ("code", "how", "kind", "node", "path", "place", "sources", "tested", "value")

    def __init__(self, kind: str, node: ast.AST, path: tuple[Label, ...], code: types.CodeType) -> None:
        self.kind, self.node, self.path, self.code = kind, node, path, code
        self.place: Place | None = None
        self.value: Any = UNKNOWN
        self.sources: frozenset[Any] = frozenset()
        self.how = ""
        self.tested = False

    @property
    def line(self) -> int:
        """The number of its line."""
        return getattr(self.node, "lineno", self.code.co_firstlineno)

    def within(self, path: Sequence[Label]) -> bool:
        """Whether it is done for certain once a point with `path` is reached."""
        return all(label in path for label in self.path)


class Flow:
    """The steps of one function.

    :param is_user: tells the user's files.
    :ivar tests: the reads on which a branch depends.
    :ivar copies: for local names the reads that filled them, where nothing was done to the value.
    """

    def __init__(self, sources: Sources, is_user: Callable[[str], bool]) -> None:
        self._sources, self._is_user = sources, is_user
        self.steps: list[Step] = []
        self.tests: dict[Label, list[Step]] = {}
        self.copies: dict[str, Step] = {}
        #: How many attributes and items are written of objects that are not known.
        self.unknown_writes = 0
        self._path: tuple[Label, ...] = ()
        self._branches = 0
        self._depth = 0
        self._code: types.CodeType = Flow.__init__.__code__
        self._following: list[types.CodeType] = []

    def run(self, code: types.CodeType, scope: Scope, *, live: bool) -> bool:
        """Make the steps of a function; returns whether its source is known.

        :param live: whether `scope` has the locals of a frame that runs, and they are not to be worked out.
        """
        node = self._sources.node(code)
        if node is None:
            return False
        changing = _bound_twice(node)
        scope.names = {name: value for name, value in scope.names.items() if name not in changing}
        scope.closed = frozenset({*code.co_varnames, *code.co_cellvars, *code.co_freevars}) - set(scope.names)
        outer = self._code, self._path
        self._code = code
        self._following.append(code)
        self._block(node.body, _Walk(scope, live=live, changing=changing))
        self._following.pop()
        self._code, self._path = outer
        return True

    # -- statements

    def _block(self, body: Sequence[ast.stmt], walk: _Walk) -> bool:
        """Walk statements; returns whether they may be left before their end."""
        left = False
        for statement in body:
            if len(self.steps) > MOST_STEPS:
                return True
            if self._statement(statement, walk):
                left = True
        return left

    def _statement(self, node: ast.stmt, walk: _Walk) -> bool:
        method = getattr(self, "_on_" + type(node).__name__, None)
        return bool(method(node, walk)) if method is not None else False

    def _on_Expr(self, node: ast.Expr, walk: _Walk) -> None:  # noqa: N802 - after the class of the node
        self._expression(node.value, walk)

    def _on_Assert(self, node: ast.Assert, walk: _Walk) -> None:  # noqa: N802
        self._expression(node.test, walk)

    def _on_Return(self, node: ast.Return, walk: _Walk) -> bool:  # noqa: N802
        if node.value is not None:
            self._expression(node.value, walk)
            self._used(node.value, walk)
        return True

    def _on_Raise(self, node: ast.Raise, walk: _Walk) -> bool:  # noqa: N802
        if node.exc is not None:
            self._expression(node.exc, walk)
        return True

    def _on_Break(self, node: ast.Break, walk: _Walk) -> bool:  # noqa: N802
        return True

    _on_Continue = _on_Break  # noqa: N815

    def _on_Assign(self, node: ast.Assign, walk: _Walk) -> None:  # noqa: N802
        self._assign(node.targets, node.value, walk)

    def _on_AnnAssign(self, node: ast.AnnAssign, walk: _Walk) -> None:  # noqa: N802
        if node.value is not None:
            self._assign([node.target], node.value, walk)

    def _on_AugAssign(self, node: ast.AugAssign, walk: _Walk) -> None:  # noqa: N802
        self._expression(node.target, walk)
        place = place_of(node.target, walk.scope)
        self._expression(node.value, walk)
        if place is not None:
            self._write(place, node, UNKNOWN, frozenset({place.identity}), "+=")

    def _on_Delete(self, node: ast.Delete, walk: _Walk) -> None:  # noqa: N802
        for target in node.targets:
            if isinstance(target, ast.Subscript):
                self._mark("enter", target)
                self._mark("leave", target)
            place = place_of(target, walk.scope)
            if place is not None:
                self._write(place, node, ABSENT, frozenset(), "del")

    def _on_If(self, node: ast.If, walk: _Walk) -> bool:  # noqa: N802
        reads = self._tested(node.test, walk)
        number = self._branch()
        left = [self._arm(number, "then", node.body, walk, reads), self._arm(number, "else", node.orelse, walk, reads)]
        if any(left):
            self._rest(number, reads)
        return any(left)

    def _on_While(self, node: ast.While, walk: _Walk) -> bool:  # noqa: N802
        reads = self._tested(node.test, walk)
        return self._loop(node.body, node.orelse, walk, reads)

    def _on_For(self, node: ast.For, walk: _Walk) -> bool:  # noqa: N802
        self._expression(node.iter, walk)
        self._used(node.iter, walk)
        self._mark("enter", node.iter)
        self._mark("leave", node.iter)
        return self._loop(node.body, node.orelse, walk, [])

    def _loop(self, body: list[ast.stmt], orelse: list[ast.stmt], walk: _Walk, reads: list[Step]) -> bool:
        number = self._branch()
        self._arm(number, "loop", body, walk, reads)
        self._block(orelse, walk)
        left = any(isinstance(each, ast.Return | ast.Raise) for part in body for each in ast.walk(part))
        if left:
            self._rest(number, reads)
        return left

    def _on_With(self, node: ast.With, walk: _Walk) -> bool:  # noqa: N802
        managers = []
        for item in node.items:
            self._expression(item.context_expr, walk)
            managers.append(self._manager(item.context_expr, walk))
        left = self._block(node.body, walk)
        for manager in managers:
            self.steps += manager
        return left

    def _manager(self, node: ast.expr, walk: _Walk) -> list[Step]:
        """Step into a context manager; returns the steps that leave it."""
        self._mark("enter", node)
        leaving: list[Step] = []
        value = resolve(node, walk.scope)
        if value is not UNKNOWN and value is not FRESH:
            self._use(value, node, "with")
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

    def _on_Try(self, node: ast.Try, walk: _Walk) -> bool:  # noqa: N802
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

    def _branch(self) -> int:
        self._branches += 1
        return self._branches

    def _arm(self, number: int, name: str, body: Sequence[ast.stmt], walk: _Walk, reads: list[Step]) -> bool:
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

    def _tested(self, node: ast.expr, walk: _Walk) -> list[Step]:
        """Walk a test; returns the reads that it depends on, those of names filled before included."""
        first = len(self.steps)
        self._expression(node, walk)
        reads = [step for step in self.steps[first:] if step.kind == "read"]
        names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        reads += [read for name, read in walk.filled.items() if name in names]
        for read in reads:
            read.tested = True
        return reads

    # -- expressions

    def _expression(self, node: ast.expr | None, walk: _Walk) -> None:
        if node is None or isinstance(node, ast.Constant | ast.Lambda) or len(self.steps) > MOST_STEPS:
            return
        if isinstance(node, ast.BoolOp):
            reads = self._tested(node.values[0], walk)
            for value in node.values[1:]:
                self._apart(value, walk, reads)
        elif isinstance(node, ast.IfExp):
            reads = self._tested(node.test, walk)
            self._apart(node.body, walk, reads)
            self._apart(node.orelse, walk, reads)
        elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            self._expression(node.generators[0].iter, walk)
            self._used(node.generators[0].iter, walk)
        elif isinstance(node, ast.Call):
            self._call(node, walk)
        elif isinstance(node, ast.NamedExpr):
            self._assign([node.target], node.value, walk)
        elif isinstance(node, ast.Yield | ast.YieldFrom):
            self._mark("yield", node)
        else:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    self._expression(child, walk)
            if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
                self._load(node, walk)
            elif isinstance(node, ast.Compare):
                self._compare(node, walk)

    def _apart(self, node: ast.expr, walk: _Walk, reads: list[Step] | None = None) -> None:
        """Walk an expression that is evaluated under a condition only."""
        outer, label = self._path, (self._branch(), "then")
        self.tests[label] = reads or []
        self._path = (*outer, label)
        self._expression(node, walk)
        self._path = outer

    def _load(self, node: ast.Name | ast.Attribute | ast.Subscript, walk: _Walk) -> None:
        if isinstance(node, ast.Attribute):
            base = resolve(node.value, walk.scope)
            if base is None:  # it was something else when it was checked
                self._mark("enter", node)
                self._mark("leave", node)
            found = UNKNOWN if base is UNKNOWN or base is FRESH else method_of(base, node.attr)
            getter = getattr(found, "fget", None) or getattr(found, "func", None)
            if isinstance(getter, types.FunctionType) and self._is_user(getter.__code__.co_filename):
                self._mark("enter", node)
                self._enter(getter, {getter.__code__.co_varnames[0]: base})
                self._mark("leave", node)
                return
        place = place_of(node, walk.scope)
        if place is not None:
            holder = attribute_of(place.owner, place.key)[0] if place.attribute else place.owner
            if holder is not place.owner:  # the class
                self._read(Place(holder, place.key, attribute=True), node)
            self._read(place, node)
            if isinstance(node, ast.Subscript):
                self._mark("enter", node)
                self._mark("leave", node)

    def _compare(self, node: ast.Compare, walk: _Walk) -> None:
        if isinstance(node.ops[0], ast.In | ast.NotIn):
            base = resolve(node.comparators[0], walk.scope)
            place = item_place(base, resolve(node.left, walk.scope))
            if place is None and isinstance(base, dict | list | set):
                place = Place(base, ALL)
            if place is not None:
                self._read(place, node, "in")

    def _call(self, node: ast.Call, walk: _Walk) -> None:
        method = node.func if isinstance(node.func, ast.Attribute) else None
        self._expression(method.value if method is not None else node.func, walk)
        if method is not None and resolve(method.value, walk.scope) is None:
            self._load(method, walk)
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        for argument in arguments:
            self._expression(argument.value if isinstance(argument, ast.Starred) else argument, walk)
        function = resolve_callable(node.func, walk.scope)
        self._mark("enter", node)
        if isinstance(function, types.FunctionType) and self._is_user(function.__code__.co_filename):
            self._follow(function, node, walk)
        elif isinstance(function, type) and isinstance(vars(function).get("__init__"), types.FunctionType):
            pass  # what a new object does to itself concerns nobody else
        elif function is next and node.args:
            value = resolve(node.args[0], walk.scope)
            if value is not UNKNOWN:
                self._use(value, node, "next")
        elif getattr(function, "__name__", "") not in _BLIND:
            for argument in arguments:
                self._used(argument, walk)
        self._mark("leave", node)
        if method is not None:
            self._method(node, method, walk)

    def _method(self, node: ast.Call, method: ast.Attribute, walk: _Walk) -> None:
        """Walk a method of a container, or of a library's object, which reads whatever that holds."""
        base, name = resolve(method.value, walk.scope), method.attr
        if base is UNKNOWN or base is FRESH or isinstance(base, types.ModuleType):
            return
        argument = resolve(node.args[0], walk.scope) if node.args else UNKNOWN
        if name in _LOOKING:
            place = item_place(base, argument)
            if place is not None and not isinstance(base, list):
                self._read(place, node, name)
        if name == "update" and hasattr(base, "__setitem__"):
            self._update(base, node, walk)
        elif name == "clear" and hasattr(base, "clear"):
            self._write(Place(base, ALL), node, FRESH, frozenset(), name)
        elif name in _ADDING | _TAKING and hasattr(base, "__contains__"):
            keyed = item_place(base, argument) if not isinstance(base, list) else None
            value = ABSENT if name in _TAKING else argument if isinstance(base, set) else UNKNOWN
            self._write(keyed or Place(base, ALL), node, value, self._made_of(node, walk), name)
        elif not isinstance(method_of_user(base, name, self._is_user), types.FunctionType):
            self._use(base, node, name)

    def _update(self, base: Any, node: ast.Call, walk: _Walk) -> None:
        pairs: list[tuple[Any, Any]] = [(keyword.arg, resolve(keyword.value, walk.scope)) for keyword in node.keywords]
        for argument in node.args[:1]:
            if isinstance(argument, ast.Dict):
                pairs += [
                    (resolve(key, walk.scope), resolve(value, walk.scope))
                    for key, value in zip(argument.keys, argument.values, strict=True)
                ]
            else:
                given = resolve(argument, walk.scope)
                pairs += list(given.items()) if type(given) is dict and len(given) < 50 else []
        for key, value in pairs:
            place = item_place(base, key)
            if place is not None:
                self._write(place, node, value, frozenset(), "update")

    # -- what is called

    def _follow(self, function: types.FunctionType, node: ast.Call, walk: _Walk) -> None:
        """Step into a function of the user's, with what is known of its arguments."""
        code = function.__code__
        names = code.co_varnames[: code.co_argcount]
        values = [resolve(argument, walk.scope) for argument in node.args]
        if isinstance(node.func, ast.Attribute) and names:
            base = resolve(node.func.value, walk.scope)
            if base is not UNKNOWN and not isinstance(base, types.ModuleType):
                values.insert(0, base)
        bound = dict(zip(names, values, strict=False))
        bound |= {each.arg: resolve(each.value, walk.scope) for each in node.keywords if each.arg in code.co_varnames}
        self._enter(function, {name: value for name, value in bound.items() if value is not UNKNOWN})

    def _enter(self, function: types.FunctionType, names: dict[str, Any]) -> None:
        if self._depth >= DEEPEST or function.__code__ in self._following:
            return
        self._depth += 1
        self.run(function.__code__, scope_of(function, names), live=False)
        self._depth -= 1

    # -- steps

    def _assign(self, targets: list[ast.expr], value: ast.expr, walk: _Walk) -> None:
        first = len(self.steps)
        self._expression(value, walk)
        reads = [step for step in self.steps[first:] if step.kind == "read"]
        sources = self._made_of(value, walk)
        known = resolve(value, walk.scope)
        for target in targets:
            if isinstance(target, ast.Name) and place_of(target, walk.scope) is None:
                if known is FRESH:
                    walk.own.add(target.id)
                walk.derived[target.id] = sources
                exact = reads[-1] if reads and reads[-1].node is value else None
                walk.filled.pop(target.id, None)
                if exact is not None:
                    walk.filled[target.id] = exact
                    if walk.live and target.id not in walk.changing:
                        self.copies[target.id] = exact
                if not walk.live and target.id not in walk.changing and known is not UNKNOWN and known is not FRESH:
                    walk.scope.names[target.id] = known
                continue
            if isinstance(target, ast.Attribute | ast.Subscript):
                self._expression(target.value, walk)
            place = place_of(target, walk.scope) if not isinstance(target, ast.Tuple | ast.List) else None
            if place is not None:
                self._write(place, target, known, sources, "=")
            elif isinstance(target, ast.Subscript) and isinstance(
                base := resolve(target.value, walk.scope), dict | list | set
            ):
                self._write(Place(base, ALL), target, UNKNOWN, sources, "item")
            elif _root(target) not in walk.own:
                self.unknown_writes += 1

    def _made_of(self, node: ast.expr, walk: _Walk) -> frozenset[Any]:
        """Return the identities of the places that go into the value of an expression."""
        found: set[Any] = set()
        for each in ast.walk(node):
            if isinstance(each, ast.Name) and each.id in walk.derived:
                found |= walk.derived[each.id]
            if isinstance(each, ast.Name | ast.Attribute | ast.Subscript):
                place = place_of(each, walk.scope)
                if place is not None:
                    found.add(place.identity)
            elif isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute) and each.func.attr in _LOOKING:
                base = resolve(each.func.value, walk.scope)
                place = item_place(base, resolve(each.args[0], walk.scope)) if each.args else None
                if place is not None:
                    found.add(place.identity)
        return frozenset(found)

    def _used(self, node: ast.expr, walk: _Walk) -> None:
        value = resolve(node, walk.scope)
        if isinstance(value, dict | list | set):
            self._use(value, node, "")

    def _mark(self, kind: str, node: ast.AST) -> None:
        self.steps.append(Step(kind, node, self._path, self._code))

    def _use(self, value: Any, node: ast.AST, how: str) -> None:
        self._mark("use", node)
        self.steps[-1].value, self.steps[-1].how = value, how

    def _read(self, place: Place, node: ast.AST, how: str = "") -> None:
        self._mark("read", node)
        self.steps[-1].place, self.steps[-1].how = place, how

    def _write(self, place: Place, node: ast.AST, value: Any, sources: frozenset[Any], how: str) -> None:
        self._mark("write", node)
        step = self.steps[-1]
        step.place, step.value, step.sources, step.how = place, value, sources, how


class _Walk:
    """What is known while the body of one function is walked."""

    __slots__ = ("changing", "derived", "filled", "live", "own", "scope")

    def __init__(self, scope: Scope, *, live: bool, changing: frozenset[str]) -> None:
        self.scope, self.live, self.changing = scope, live, changing
        self.derived: dict[str, frozenset[Any]] = {}
        self.filled: dict[str, Step] = {}
        #: Names of objects made here.
        self.own: set[str] = set()


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def scope_of(function: types.FunctionType, names: dict[str, Any]) -> Scope:
    """Return what the body of a function sees, besides its arguments `names` the variables it closes over."""
    closed = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            closed[name] = cell.cell_contents
        except ValueError:  # not filled yet
            continue
    return Scope({**closed, **names}, function.__globals__)


def method_of_user(base: Any, name: str, is_user: Callable[[str], bool]) -> Any:
    """Return the method of an object if it is written in one of the user's files."""
    for cls in type(base).__mro__:
        found = vars(cls).get(name)
        if found is not None:
            code = getattr(found, "__code__", None)
            return found if code is not None and is_user(code.co_filename) else None
    return None


def reads_of(value: Any, place: Place) -> bool:
    """Whether using an object as a whole reads a place: its own, or one of what its attributes or items hold."""
    if place.owner is value:
        return True
    if isinstance(value, dict | list | set):
        return False
    own = getattr(value, "__dict__", None)
    return isinstance(own, dict) and any(held is place.owner for held in own.values())


def _bound_twice(node: ast.FunctionDef) -> frozenset[str]:
    """Return the local names that stand for several things in the course of a function."""
    arguments = node.args
    seen = {each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    twice: set[str] = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store | ast.Del):
            (twice if each.id in seen else seen).add(each.id)
        elif isinstance(each, ast.Global):
            twice.update(each.names)
    return frozenset(twice)
