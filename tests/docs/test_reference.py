"""The reference is complete: what the package offers is described."""

import dataclasses
import os
import re
import subprocess
import sys
import tomllib
from html import unescape
from pathlib import Path

import pytest

from pytest_celerypool import fixtures, judge, pools, surface
from pytest_celerypool.agent.detectors import BUILT_IN
from pytest_celerypool.policies import kinds_of
from pytest_celerypool.trace import Span
from pytest_celerypool.verdict.hazards import KINDS
from pytest_celerypool.worker import WorkerHandle

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"


def page(name: str) -> str:
    return (DOCS / f"{name}.rst").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The documentation as text, built offline with warnings as errors."""
    pytest.importorskip("sphinx")
    pytest.importorskip("furo")
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", folder / "trees"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    run = subprocess.run([*command, DOCS, folder], capture_output=True, text=True, timeout=180, env=environment)
    assert run.returncode == 0, run.stderr
    return lambda name: unescape(re.sub(r"<[^>]+>", "", (folder / f"{name}.html").read_text(encoding="utf-8")))


def test_built_pages_have_what_is_generated(built):
    """Options, ini keys, fixtures, markers, facts and slots are on their pages."""
    for name, (metavar, _) in surface.OPTIONS.items():
        assert surface.option_of(name) + ("=" if metavar else "") in built("options")
        assert f"celery_{name}" in built("options")
    for text in pools.FACTS.values():
        assert text in built("pools")
    for line in surface.MARKERS:
        assert f"@pytest.mark.{line.partition('(')[0]}" in built("markers")
    kinds = [kind for path in BUILT_IN for kind in kinds_of(path)]
    for kind in (*kinds, *KINDS):
        assert kind.name in built("findings")
    for name in ("celery_pool_app", "celery_pool", "celery_pool_worker"):
        assert getattr(fixtures, name) is not None
        assert f"{name} (scope: " in built("fixtures")
    assert "0.1.0" in built("changelog")


@pytest.mark.parametrize("line", surface.MARKERS, ids=lambda line: line.partition("(")[0])
def test_every_argument_of_a_marker_is_described(line):
    """Each argument stands on the page of the markers as code, or in an example of its own."""
    name, arguments = line.split("(", 1)
    text = page("markers").split(f".. _{name}:")[1].split("\n.. _celery")[0]
    for argument in re.findall(r"(\w+)=", arguments.partition("): ")[0]):
        assert re.search(rf"``{argument}``|\b{argument}=", text), argument


@pytest.mark.parametrize(
    "kind", [*(kind for path in BUILT_IN for kind in kinds_of(path)), *KINDS], ids=lambda kind: kind.name
)
def test_every_kind_of_finding_has_a_section(kind):
    """Its name is in the title of a section on the page of its family."""
    pages = [path.read_text(encoding="utf-8") for path in (DOCS / "findings").glob("*.rst")]
    titles = [title for text in pages for title, line in re.findall(r"(?m)^(``.*``)\n(-+)$", text)]
    assert any(f"``{kind.name}``" in title for title in titles)


def test_every_figure_of_a_span_is_described():
    """Fields and properties of a span are in its table."""
    properties = [name for name, value in vars(Span).items() if isinstance(value, property)]
    for name in [*(field.name for field in dataclasses.fields(Span)), *properties]:
        assert f"``{name}``" in page("fixtures")


def test_every_part_of_the_handle_is_described():
    """What the contract names of a handle is among the documented members or attributes."""
    text = page("fixtures")
    (members,) = re.findall(r"WorkerHandle\(\)\n   :members: (.*)", text)
    listed = {name.strip() for name in members.split(",")}
    names = [
        "pid",
        "hostname",
        "concurrency",
        "submit",
        "run",
        "map",
        "drain",
        "spans",
        "findings",
        "log",
        "kill",
        "restart",
        "stop",
    ]
    assert set(names) == listed
    assert all(hasattr(WorkerHandle, name) for name in names)
    for attribute in ("app", "pool", "launch"):
        assert f":ivar {attribute}:" in WorkerHandle.__doc__


def test_every_dependency_has_its_reason():
    """The page of dependencies has an entry for each in pyproject.toml."""
    meta = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*meta["project"]["dependencies"], *meta["build-system"]["requires"]]
    wanted += [each for extra in meta["project"]["optional-dependencies"].values() for each in extra]
    for requirement in wanted:
        name = re.match(r"[\w.-]+(\[redis\])?", requirement)[0]
        if name != "pytest-celerypool":
            assert re.search(rf"(?m)^([\w, -]+, )?{re.escape(name)}(, [\w, -]+)?$", page("dependencies")), name


def test_every_junit_property_is_described():
    """The names that a verdict writes stand in the recipes."""
    source = Path(judge.__file__).read_text(encoding="utf-8")
    for name in re.findall(r'\("(celery_\w+)"', source):
        assert f"``{name}``" in page("recipes")
    for name in ("runtime", "queued", "total", "cpu", "hold"):
        assert f"``celery_{name}_max_s``" in page("recipes")


def test_changelog_has_this_version():
    """The version of the package is in the changelog."""
    import pytest_celerypool

    assert f"## [{pytest_celerypool.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_readme_links_lead_somewhere():
    """What the README links to inside the repository exists."""
    prose = re.sub(r"(?ms)^```.*?^```", "", (ROOT / "README.md").read_text(encoding="utf-8"))
    links = re.findall(r"\]\((?!https?:)([^)#]+)", prose)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
