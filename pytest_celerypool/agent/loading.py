"""Find the application under test: the same way in pytest's process and in a worker."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import Any, TypedDict


class Source(TypedDict):
    """Where an application comes from, as plain data that can be sent to a worker.

    ``module`` and ``attribute`` as in ``celery -A module:attribute`` (an empty attribute leaves the search to
    Celery), ``call`` if the attribute is a factory, ``file`` if the module was not imported by its name but
    from a file, as pytest imports test modules.
    """

    module: str
    attribute: str
    call: bool
    file: str | None


def parse(text: str) -> Source:
    """Return the :class:`Source` that ``MODULE:ATTR``, ``MODULE:FACTORY()`` or ``MODULE`` names."""
    module, _, attribute = text.partition(":")
    call = attribute.endswith("()")
    return Source(module=module, attribute=attribute.removesuffix("()"), call=call, file=None)


def spell(source: Source) -> str:
    """Return the text that :func:`parse` takes, for messages and for the ``-A`` of a worker."""
    name = source["module"] + (":" + source["attribute"] if source["attribute"] else "")
    return name + ("()" if source["call"] else "")


def load(source: Source) -> Any:
    """Import the application that `source` names and return it.

    Raises whatever the import raises, :exc:`AttributeError` if the module has no such attribute, and
    :exc:`TypeError` if what was found is no Celery application.
    """
    if source["file"] is not None:
        _import_file(source["module"], source["file"])
    found = _find(source)
    if hasattr(found, "_get_current_object"):  # a proxy, such as celery.current_app
        found = found._get_current_object()
    from celery import Celery

    if not isinstance(found, Celery):
        raise TypeError(
            f"{spell(source)} is {found!r}, not a Celery application. "
            "Give MODULE:ATTR of an application, or MODULE:FACTORY() of a function that returns one."
        )
    return found


def _find(source: Source) -> Any:
    if not source["attribute"]:
        from celery.app.utils import find_app

        return find_app(source["module"])
    found: Any = importlib.import_module(source["module"])
    for part in source["attribute"].split("."):
        found = getattr(found, part)
    return found() if source["call"] else found


def _import_file(name: str, path: str) -> None:
    """Import the file at `path` as the module `name`, as pytest did, unless the name leads there anyway.

    With ``--import-mode=importlib`` the folder of a package need not be on the path: its files have to be told of the
    packages around them, which their relative imports name.
    """
    for module, file in (*_packages_around(name, path), (name, path)):
        if module not in sys.modules and not _leads_to(module, file):
            _execute(module, file)


def _packages_around(name: str, path: str) -> list[tuple[str, str]]:
    """Return the packages that the module `name` at `path` lies in, the outermost first, each with its file."""
    found: list[tuple[str, str]] = []
    folder = os.path.dirname(path)
    if os.path.basename(path) == "__init__.py":
        folder = os.path.dirname(folder)
    package = name.rpartition(".")[0]
    while package and os.path.basename(folder) == package.rpartition(".")[2]:
        file = os.path.join(folder, "__init__.py")
        if not os.path.isfile(file):
            break
        found.insert(0, (package, file))
        package, folder = package.rpartition(".")[0], os.path.dirname(folder)
    return found


def _execute(name: str, path: str) -> None:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import the application's module from {path}", name=name, path=path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _leads_to(name: str, path: str) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None and os.path.realpath(spec.origin) == os.path.realpath(path)
