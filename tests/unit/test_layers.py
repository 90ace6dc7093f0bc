"""The order of the layers: data flows one way, so imports do too."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pytest_celerypool

ROOT = Path(pytest_celerypool.__file__).parent

#: From the bottom up; a module may import from its own layer and from those below. A package stands for its
#: modules. Read with "How it works" in the documentation.
LAYERS = (
    ("errors", "units", "keys", "surface", "waiting"),
    ("pools",),
    ("settings",),
    ("markers",),
    ("agent", "trace", "reaper", "channel"),
    ("ledger",),
    ("verdict", "hookspecs"),
    ("policies", "baseline"),
    ("serving",),
    ("broker", "application", "databases", "crossing"),
    ("launch",),
    ("vain",),
    ("handle",),
    ("worker",),
    ("repetition",),
    ("floors", "confirming"),
    ("workers",),
    ("variants",),
    ("lease",),
    ("stress", "onlooker", "cluster", "witness"),
    ("judge", "report"),
    ("standin",),
    ("contrib",),
    ("multiply",),
    ("running", "fixtures", "distribution"),
    ("hosting", "host"),
    ("startup",),
    ("plugin",),
)

#: What the agent, which lives in other people's workers, may import beside the standard library.
OF_THE_AGENT = {"celery", "kombu", "amqp", "billiard", "greenlet", "psutil", "gevent", "eventlet", "django"}

MODULES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.name != "__init__.py")


def part(path: Path) -> str:
    """The module or package right below the root that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports at run time, wherever in the file, with its full name."""
    nodes: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        nodes.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ["pytest_celerypool", *path.relative_to(ROOT).parts[: -node.level]] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def layer(name: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if name in names)


def ours(path: Path) -> set[str]:
    names = [name.split(".") for name in imported(path)]
    return {name[1] for name in names if name[0] == "pytest_celerypool" and len(name) > 1}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_imports_nothing_from_a_layer_above(path):
    above = {name for name in ours(path) if layer(name) > layer(part(path))}
    assert not above


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_is_taken_from_the_package_as_an_attribute(path):
    """After a run in its own process pytester forgets the modules that were new, but not the package's attributes."""
    assert not {f"pytest_celerypool.{part(each)}" for each in MODULES} & set(imported(path))


def test_every_module_has_a_layer():
    assert {part(path) for path in MODULES} == {name for names in LAYERS for name in names}


@pytest.mark.parametrize("path", sorted((ROOT / "agent").rglob("*.py")), ids=lambda path: path.name)
def test_the_agent_imports_nothing_else_of_ours_and_no_pytest(path):
    foreign = {name.split(".")[0] for name in imported(path)} - sys.stdlib_module_names
    assert foreign <= OF_THE_AGENT | {"pytest_celerypool"}
    assert ours(path) <= {"agent", "trace"}


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if part(path) not in ("agent", "host")],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_only_the_agent_and_the_entry_point_of_a_host_import_a_green_library(path):
    assert not {"gevent", "eventlet", "greenlet"} & {name.split(".")[0] for name in imported(path)}


def test_loading_the_plugin_imports_no_celery_and_no_green_library():
    program = (
        "import sys, pytest\n"
        "before = set(sys.modules)\n"
        "import pytest_celerypool.plugin\n"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.split() == ["pytest_celerypool"]


def test_a_run_that_uses_no_pool_imports_no_more_than_the_names_that_it_might_use(pytester):
    pytester.makepyfile("def test_it(): pass")
    pytester.makeconftest(
        """
        import sys

        def pytest_unconfigure():
            print("imported", *sorted(name for name in sys.modules if name.startswith("pytest_celerypool.")))
        """
    )
    run = pytester.runpytest_subprocess()
    names = ["fixtures", "hookspecs", "keys", "plugin", "surface"]
    run.stdout.fnmatch_lines(["imported " + " ".join(f"pytest_celerypool.{name}" for name in names)])
