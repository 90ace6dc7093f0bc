"""What the user's expressions read, write and call, in the order of their evaluation."""

from __future__ import annotations

import array
import ast
import io
import types
from collections.abc import Callable
from typing import Any

from pytest_celerypool.agent.detectors.code.places import (
    ABSENT,
    ALL,
    CACHED,
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
    shallow_copy,
)
from pytest_celerypool.agent.detectors.code.steps import (
    FILLING,
    Label,
    Step,
    Walk,
    is_whole,
    manager_around,
    method_of_user,
    root_of,
    scope_of,
)

#: How deep calls are followed, and how many steps of one task are looked at.
DEEPEST = 4
MOST_STEPS = 1500

_ADDING = {"append", "add", "extend", "insert", "appendleft", "put", "put_nowait", "update", "setdefault"}
_TAKING = {"pop", "popitem", "remove", "discard", "popleft", "get_nowait"}
_LOOKING = {"get", "pop", "setdefault"}

#: Files in memory, and what is done to them without reading what they hold.
_BUFFERS = (io.StringIO, io.BytesIO)
_OF_BUFFERS = {"truncate", "write", "writelines", "seek", "tell", "flush"}

#: What methods such as ``readinto`` fill, and these methods.
_BYTES: Any = (bytearray, memoryview, array.array)
_READS_INTO = {"readinto", "readinto1", "recv_into", "recvfrom_into", "pack_into"}

#: Functions that do not look at what an object holds.
_BLIND = {"len", "id", "isinstance", "type", "bool", "callable"}


class Expressions:
    """The steps of expressions; :class:`~pytest_celerypool.agent.detectors.code.flow.Flow` adds those of statements.

    :param is_user: tells the user's files.
    :ivar steps: what is done, in order.
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
        self._code: types.CodeType = Expressions.__init__.__code__
        self._following: list[types.CodeType] = []

    def run(self, code: types.CodeType, scope: Scope, *, live: bool) -> bool:
        """Make the steps of a function; returns whether its source is known."""
        raise NotImplementedError

    def _branch(self) -> int:
        self._branches += 1
        return self._branches

    def _tested(self, node: ast.expr, walk: Walk) -> list[Step]:
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

    def _expression(self, node: ast.expr | None, walk: Walk) -> None:
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
            if not isinstance(node, ast.GeneratorExp):  # what that does is done when somebody goes through it
                self._elements(node, walk)
        elif isinstance(node, ast.Call):
            self._call(node, walk)
        elif isinstance(node, ast.NamedExpr):
            self._assign([node.target], node.value, walk)
        elif isinstance(node, ast.Yield | ast.YieldFrom):
            self._expression(node.value, walk)
            self._mark("yield", node)
        else:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    self._expression(child, walk)
            if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
                self._load(node, walk)
            elif isinstance(node, ast.Compare):
                self._compare(node, walk)

    def _elements(self, node: ast.ListComp | ast.SetComp | ast.DictComp, walk: Walk) -> None:
        """Walk what a comprehension does for each element, as the body of a loop with names of its own."""
        outer, scope = self._path, walk.scope
        own = {each.id for part in node.generators for each in ast.walk(part.target) if isinstance(each, ast.Name)}
        walk.scope = Scope({name: value for name, value in scope.names.items() if name not in own}, scope.module)
        walk.scope.closed = scope.closed | own
        self._path = (*outer, (self._branch(), "loop"))
        for number, part in enumerate(node.generators):
            for each in (*([part.iter] if number else []), *part.ifs):
                self._expression(each, walk)
        for each in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
            self._expression(each, walk)
        self._path, walk.scope = outer, scope

    def _apart(self, node: ast.expr, walk: Walk, reads: list[Step] | None = None) -> None:
        """Walk an expression that is evaluated under a condition only."""
        outer, label = self._path, (self._branch(), "then")
        self.tests[label] = reads or []
        self._path = (*outer, label)
        self._expression(node, walk)
        self._path = outer

    def _load(self, node: ast.Name | ast.Attribute | ast.Subscript, walk: Walk) -> None:
        if isinstance(node, ast.Attribute):
            base = resolve(node.value, walk.scope)
            if base is None:  # it was something else when it was checked
                self._mark("enter", node)
                self._mark("leave", node)
            found = UNKNOWN if base is UNKNOWN or base is FRESH else method_of(base, node.attr)
            getter = getattr(found, "fget", None) or getattr(found, "func", None)
            if isinstance(getter, types.FunctionType) and self._is_user(getter.__code__.co_filename):
                if getter is not getattr(found, "fget", None):  # a property that keeps what it has made
                    self._use(found, node, "call")
                self._step_into(getter, node, base)
                return
            if (computes := self._users_method(found, "__get__")) is not None:  # a descriptor of the user's
                self._step_into(computes, node, found, base)
                return
        if isinstance(node, ast.Subscript):
            base, key = resolve(node.value, walk.scope), resolve(node.slice, walk.scope)
            if isinstance(base, _BYTES):
                self._use(base, node, "")
                return
            if (looks := self._users_method(base, "__getitem__")) is not None:
                self._step_into(looks, node, base, key)
                return
            if (makes := self._users_method(base, "__missing__")) is not None and isinstance(base, dict):
                self._make_missing(makes, node, base, key)
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

    def _users_method(self, base: Any, name: str) -> types.FunctionType | None:
        """Return a method of an object's class if the user has written it."""
        method = None if base is UNKNOWN or base is FRESH or isinstance(base, type) else method_of(base, name)
        return method if isinstance(method, types.FunctionType) and self._is_user(method.__code__.co_filename) else None

    def _step_into(self, method: types.FunctionType, node: ast.expr, *values: Any) -> None:
        """Step into what an attribute or an item is worked out by.

        :param values: its arguments, :data:`UNKNOWN` where they are not known.
        """
        names = method.__code__.co_varnames[: method.__code__.co_argcount]
        self._mark("enter", node)
        given = zip(names, values, strict=False)
        self._enter(method, {name: value for name, value in given if value is not UNKNOWN and value is not FRESH})
        self._mark("leave", node)

    def _make_missing(self, method: types.FunctionType, node: ast.Subscript, base: Any, key: Any) -> None:
        """Step into ``__missing__``, which a dictionary calls for an item that it does not have."""
        place = item_place(base, key) or Place(base, ALL)
        self._read(place, node, "in")
        read = self.steps[-1]
        read.tested = True
        outer, label = self._path, (self._branch(), "then")
        self.tests[label] = [read]
        self._path = (*outer, label)
        self._step_into(method, node, base, key)
        self._path = outer
        self._read(place, node)

    def _compare(self, node: ast.Compare, walk: Walk) -> None:
        if isinstance(node.ops[0], ast.In | ast.NotIn):
            base = resolve(node.comparators[0], walk.scope)
            place = item_place(base, resolve(node.left, walk.scope))
            if place is None and isinstance(base, dict | list | set):
                place = Place(base, ALL)
            if place is not None:
                self._read(place, node, "in")

    def _call(self, node: ast.Call, walk: Walk) -> None:
        method = node.func if isinstance(node.func, ast.Attribute) else None
        self._expression(method.value if method is not None else node.func, walk)
        if method is not None and resolve(method.value, walk.scope) is None:
            self._load(method, walk)
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        for argument in arguments:
            self._expression(argument.value if isinstance(argument, ast.Starred) else argument, walk)
        function = resolve_callable(node.func, walk.scope)
        manager = manager_around(function)
        self._manage(manager, "__enter__")
        self._mark("enter", node)
        if isinstance(function, types.FunctionType) and self._is_user(function.__code__.co_filename):
            self._follow(function, node, walk)
        elif manager is not None:
            inner = getattr(function, "__wrapped__", None)
            if isinstance(inner, types.FunctionType) and self._is_user(inner.__code__.co_filename):
                self._follow(inner, node, walk)
        elif (new := self._maker(function)) is not None:
            self._follow(new, node, walk, function)
        elif isinstance(function, type) and isinstance(vars(function).get("__init__"), types.FunctionType):
            pass  # what a new object does to itself concerns nobody else
        elif function is next and node.args:
            value = resolve(node.args[0], walk.scope)
            if value is not UNKNOWN:
                self._use(value, node, "next")
        elif function is hasattr:
            self._look_for_attribute(node, walk)
        elif getattr(function, "__name__", "") not in _BLIND:
            if method is not None and method.attr in _READS_INTO:
                self._read_into(node, walk)
            if isinstance(function, CACHED):
                self._use(function, node, "call")
            for argument in arguments:
                self._used(argument, walk)
        self._mark("leave", node)
        self._manage(manager, "__exit__")
        if method is not None:
            self._method(node, method, walk)

    def _read_into(self, node: ast.Call, walk: Walk) -> None:
        """Walk a method that puts what it reads into a buffer which it is given."""
        for argument in node.args:
            buffer = resolve(argument, walk.scope)
            if isinstance(buffer, _BYTES):
                self._write(Place(buffer, ALL), argument, FRESH, frozenset(), "into")

    def _look_for_attribute(self, node: ast.Call, walk: Walk) -> None:
        """Walk ``hasattr(object, "name")``: it looks at that attribute as ``in`` does at an item."""
        match node.args:
            case [base, ast.Constant(value=str(name))]:
                place = place_of(ast.Attribute(base, name, ast.Load()), walk.scope)
                if place is not None:
                    self._read(place, node, "in")

    def _method(self, node: ast.Call, method: ast.Attribute, walk: Walk) -> None:
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
        elif isinstance(base, _BUFFERS) and name in _OF_BUFFERS:
            if name == "truncate":
                self._write(Place(base, ALL), node, FRESH, frozenset(), "clear")
            elif name in FILLING:
                self._write(Place(base, ALL), node, UNKNOWN, self._made_of(node, walk), name)
        elif name in _ADDING | _TAKING and hasattr(base, "__contains__"):
            keyed = item_place(base, argument) if not isinstance(base, list) else None
            added = argument if isinstance(base, set) or name in ("append", "appendleft") else UNKNOWN
            value = ABSENT if name in _TAKING else added
            self._write(keyed or Place(base, ALL), node, value, self._made_of(node, walk), name)
        elif not isinstance(method_of_user(base, name, self._is_user), types.FunctionType):
            self._use(base, node, name)

    def _update(self, base: Any, node: ast.Call, walk: Walk) -> None:
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

    def _maker(self, cls: Any) -> types.FunctionType | None:
        """Return the ``__new__`` of a class if it is written by the user: it may keep what it makes."""
        new = method_of(cls, "__new__") if isinstance(cls, type) else None
        return new if isinstance(new, types.FunctionType) and self._is_user(new.__code__.co_filename) else None

    def _follow(self, function: types.FunctionType, node: ast.Call, walk: Walk, cls: type | None = None) -> None:
        """Step into a function of the user's, with what is known of its arguments.

        :param cls: the class that the call makes an object of.
        """
        code = function.__code__
        names = code.co_varnames[: code.co_argcount]
        values = [resolve(argument, walk.scope) for argument in node.args]
        if cls is not None:
            values.insert(0, cls)
        elif isinstance(node.func, ast.Attribute) and names:
            base = resolve(node.func.value, walk.scope)
            if base is not UNKNOWN and not isinstance(base, types.ModuleType):
                values.insert(0, base)
        bound = dict(zip(names, values, strict=False))
        bound |= {each.arg: resolve(each.value, walk.scope) for each in node.keywords if each.arg in code.co_varnames}
        self._enter(function, {name: value for name, value in bound.items() if value is not UNKNOWN})

    def _manage(self, manager: Any, name: str) -> None:
        """Step into what the manager that a function is decorated with does around a call of it."""
        method = None if manager is None else self._users_method(manager, name)
        if method is not None:
            names = method.__code__.co_varnames[: method.__code__.co_argcount]
            self._enter(method, dict(zip(names[:1], (manager,), strict=False)))

    def _enter(self, function: types.FunctionType, names: dict[str, Any]) -> None:
        if self._depth >= DEEPEST or function.__code__ in self._following:
            return
        self._depth += 1
        self.run(function.__code__, scope_of(function, names), live=False)
        self._depth -= 1

    # -- steps

    def _assign(self, targets: list[ast.expr], value: ast.expr, walk: Walk) -> None:
        if len(targets) == 1 and (pairs := _pairs(targets[0], value)):
            for target, each in pairs:
                self._assign([target], each, walk)
            return
        first = len(self.steps)
        self._expression(value, walk)
        reads = [step for step in self.steps[first:] if step.kind == "read"]
        sources = self._made_of(value, walk)
        known = resolve(value, walk.scope)
        for target in targets:
            if isinstance(target, ast.Name) and place_of(target, walk.scope) is None:
                # A frame that runs has the copy itself.
                copied = UNKNOWN if walk.live else shallow_copy(value, walk.scope)
                if known is FRESH or copied is not UNKNOWN:
                    walk.own.add(target.id)
                if copied is not UNKNOWN and target.id not in walk.changing:
                    walk.scope.names[target.id] = copied
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
            if place is None and isinstance(target, ast.Attribute):
                owner = resolve(target.value, walk.scope)
                # Of a class also what is no plain value, such as a method.
                place = Place(owner, target.attr, attribute=True) if isinstance(owner, type) else None
            if place is not None:
                self._write(place, target, known, sources, "=")
            elif isinstance(target, ast.Subscript) and isinstance(
                base := resolve(target.value, walk.scope), dict | list | set
            ):
                if is_whole(target):
                    self._write(Place(base, ALL), target, FRESH, sources, "clear")
                else:
                    self._write(Place(base, ALL), target, UNKNOWN, sources, "item")
            elif root_of(target) not in walk.own:
                self.unknown_writes += 1

    def _made_of(self, node: ast.expr, walk: Walk) -> frozenset[Any]:
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

    def _used(self, node: ast.expr, walk: Walk) -> None:
        value = resolve(node, walk.scope)
        if isinstance(value, (dict, list, set, *_BYTES)):
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


def _pairs(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    """Return target and value of each part of ``a, b = x, y``; nothing where they do not stand opposite each other."""
    if not isinstance(target, ast.Tuple | ast.List) or not isinstance(value, ast.Tuple | ast.List):
        return []
    if len(target.elts) != len(value.elts) or any(
        isinstance(each, ast.Starred) for each in (*target.elts, *value.elts)
    ):
        return []
    return list(zip(target.elts, value.elts, strict=True))
