"""Hear of every file that Python code opens by ``open``."""

from __future__ import annotations

import builtins
import functools
import io
from collections.abc import Callable
from typing import Any

#: The modules that have it.
_OWNERS: tuple[Any, ...] = (builtins, io)


class Opening:
    """Replaces ``open`` while it is installed.

    :param told: called with the file, the path and the mode after each call.
    """

    def __init__(self, told: Callable[[Any, Any, Any], None]) -> None:
        self._told = told
        self._replacement: Told | None = None

    def install(self) -> None:
        """Begin."""
        self._original = builtins.open
        self._replacement = Told(builtins.open, self._told)
        for owner in _OWNERS:
            owner.open = self._replacement

    def remove(self) -> None:
        """End."""
        for owner in _OWNERS:
            if self._replacement is not None and owner.open is self._replacement:
                owner.open = self._original


class Told:
    """``open`` that tells of each call; like the built-in one, it becomes no method where it is a class attribute."""

    __slots__ = ("__dict__", "_function", "_told")

    def __init__(self, function: Callable[..., Any], told: Callable[[Any, Any, Any], None]) -> None:
        self._function = function
        self._told = told
        functools.update_wrapper(self, function)

    def __call__(self, file: Any, mode: Any = "r", *args: Any, **kwargs: Any) -> Any:
        """Call ``open``, then tell."""
        opened = self._function(file, mode, *args, **kwargs)
        self._told(opened, file, mode)
        return opened

    def __reduce__(self) -> str:
        return self._function.__qualname__

    def __repr__(self) -> str:
        return repr(self._function)
