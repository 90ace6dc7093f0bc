"""Replace attributes of other people's modules and classes, and put them back in whatever order that ends.

Two workers in one process each replace the same functions of Celery, and the first that began may be the first that
ends. What it has put there then stays below what the second has put there, and goes with that.
"""

from __future__ import annotations

from typing import Any

#: Stands for what a class has from a base class.
_INHERITED: Any = object()

#: What has ended while something else stood in its place, by the identity of its replacement.
_buried: dict[int, Replacement] = {}


class Replacement:
    """An attribute of a module or class, replaced until :meth:`end`.

    :param owner: may have the attribute from a base class; it then gets one of its own for as long.
    :raises AttributeError: it has none.
    """

    def __init__(self, owner: Any, name: str, replacement: Any) -> None:
        self._owner, self._name, self._replacement = owner, name, replacement
        self._original = vars(owner).get(name, _INHERITED)
        if self._original is _INHERITED:
            getattr(owner, name)  # what is nowhere cannot be replaced
        setattr(owner, name, replacement)

    def end(self) -> None:
        """Put back what was there, unless somebody else has replaced that since."""
        if vars(self._owner).get(self._name) is not self._replacement:
            _buried[id(self._replacement)] = self
            return
        original = self._original
        while (below := _buried.pop(id(original), None)) is not None:
            original = below._original
        if original is _INHERITED:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, original)
