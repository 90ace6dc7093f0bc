"""What the documentation shows is true: its blocks are run, and their output is compared with what they print."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
RUN_ANYWAY = tuple(f"docs/examples/{name}" for name in ("shop", "fastapi_orders", "mixed"))
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.rst")), *sorted(EXAMPLES.glob("*/README.md"))]

#: Seconds for one command of a page.
DEADLINE_S = 180

#: Pages with tests for green pools; the others run under two pools that start faster.
GREEN = ("cluster", "getting-started", "markers")

#: Runs of a page's project whose outputs, all together, hold the page's ``text`` blocks: folder and arguments.
SHOWN = {
    "cluster": [(".", ["tests/test_wrong.py"])],
    "markers": [(".", ["tests/test_wrong.py"])],
    "databases": [
        (".", ["tests/test_hidden.py", "-o", "DJANGO_SETTINGS_MODULE=mysite.impatient"]),
        (".", ["tests/test_orders.py", "-o", "DJANGO_SETTINGS_MODULE=mysite.memory"]),
    ],
    "baseline": [
        (".", ["tests/test_reports.py", "--celery-baseline=celery-baseline.json"]),
        (
            ".",
            [
                "tests/test_reports.py",
                "test_too_much.py",
                "-p",
                "slower",
                "--celery-baseline=celery-baseline.json",
                "--celery-budget-ratchet=p95:+20%",
            ],
        ),
    ],
    "troubleshooting": [
        (".", []),
        (".", ["--celery-app=broken:app", "-k", "with_a_worker"]),
        (".", ["--celery-app=alone:app", "-k", "with_a_worker"]),
        (".", ["-p", "no_servers", "-k", "with_a_worker"]),
        (".", ["--celery-pools=solo", "-rs", "-k", "lost"]),
        ("local", []),
    ],
}


# -- reading pages


@dataclass(frozen=True)
class Block:
    """A block of code: its place, language and text, the file it stands for, and what is to be done with it."""

    page: Path
    line: int
    language: str
    text: str
    caption: str = ""
    #: The words of the comment before the block, such as ``run exit 1``; empty if it is not to be run.
    order: str = ""

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def option(self, name: str, default: str) -> str:
        """Return the word after `name` in the order."""
        words = self.order.split()
        return words[words.index(name) + 1] if name in words else default


def blocks(page: Path) -> list[Block]:
    lines = page.read_text(encoding="utf-8").splitlines()
    return list(_markdown(page, lines) if page.suffix == ".md" else _rest(page, lines))


def _markdown(page: Path, lines: list[str]) -> Iterator[Block]:
    order, begin = "", None
    for number, line in enumerate(lines, 1):
        comment = re.fullmatch(r"<!-- (run.*) -->", line)
        if comment:
            order = comment[1]
        elif line.startswith("```") and begin is None:
            begin = number
        elif line == "```":
            text = "\n".join(lines[begin : number - 1])
            caption = re.match(r"# ([\w/.]+\.\w+)\n", text)
            yield Block(page, begin, lines[begin - 1][3:], text, caption[1] if caption else "", order)
            order, begin = "", None


def _rest(page: Path, lines: list[str]) -> Iterator[Block]:
    order = ""
    for number, line in enumerate(lines, 1):
        comment = re.fullmatch(r"\.\. (run.*)", line)
        directive = re.fullmatch(r"\.\. code-block:: (\w+)", line)
        if comment:
            order = comment[1]
        elif directive:
            body = []
            for following in lines[number:]:
                if following and not following.startswith("   "):
                    break
                body.append(following[3:])
            captions = [line.removeprefix(":caption: ") for line in body if line.startswith(":caption: ")]
            text = "\n".join(line for line in body if not line.startswith(":caption: ")).strip("\n")
            yield Block(page, number, directive[1], text, "".join(captions), order)
            order = ""


BLOCKS = [block for page in PAGES for block in blocks(page)]


#: The pages whose commands the gate runs; those of the others are for tox.
FIRST_PAGES = ("README.md", "getting-started.rst")


def these(*languages: str, run: bool | None = None) -> pytest.MarkDecorator:
    """Parametrise a test with the blocks of some languages."""
    found = [block for block in BLOCKS if block.language in languages and run in (None, bool(block.order))]
    # What the examples show takes half a minute each, and the gate runs one of them anyway.
    params = [
        pytest.param(
            block,
            marks=[pytest.mark.slow]
            if run and (block.option("in", "").startswith(RUN_ANYWAY) or block.page.name not in FIRST_PAGES)
            else [],
        )
        for block in found
    ]
    return pytest.mark.parametrize("block", params, ids=lambda block: block.name)


# -- running them


def project(page: Path, folder: Path) -> list[str]:
    """Make the project of a page in `folder`: an example, what the tests add, what the page shows.

    Returns the test files that the page shows.
    """
    shutil.copytree(
        EXAMPLES / "shop", folder, ignore=shutil.ignore_patterns("tests", "__pycache__"), dirs_exist_ok=True
    )
    added = Path(__file__).parent / "projects" / page.stem
    if added.exists():
        shutil.copytree(added, folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    files: dict[str, list[str]] = {}
    for block in blocks(page):
        if block.caption and block.language in ("python", "toml"):
            files.setdefault(block.caption, []).append(block.text + "\n")
    for name, texts in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n\n".join(texts), encoding="utf-8")
    return [name for name in files if Path(name).name.startswith("test_")]


def run_pytest(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run pytest in a process of its own, as a user does; returns its exit status and what it printed."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "CELERY_"))}
    environment |= {"COLUMNS": "80", "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1"}
    # Of what else is installed nothing may change the order or the output that a page shows.
    environment["PYTEST_ADDOPTS"] = "-p no:randomly -p no:asyncio -p no:celery -p no:docker_tools"
    environment.pop("CI", None)  # with it pytest does not shorten what it prints
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_S,
    )
    return run.returncode, run.stdout


def normalised(text: str) -> str:
    """Return a text without what differs from run to run: times, sizes, ids, blanks, pytest's margin of errors."""
    text = re.sub(r"(?m)^E(?= |$)", "", text)
    text = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|(?<=\[)[0-9a-f]{8}(?=\])", "ID", text)
    text = re.sub(r"(?m)(?<=  )[0-9a-f]{8}(?=  )", "ID", text)
    text = re.sub(r"\b\d+(\.\d+)? ?(µs|ms|s|min|B|KiB|MiB|%)(?!\w)", "N", text)
    text = re.sub(r"(?<=greenlet )\d+", "N", text)
    text = re.sub(r"(={3,}|_{3,}|-{3,})", "---", text)
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


def shows(output: str, expected: str) -> bool:
    """Say whether `output` has the lines of `expected`, where ``…`` stands for anything, alone for any lines."""
    pattern = ""
    for line in normalised(expected).splitlines():
        pattern += r"(?:.*\n)*?" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + r".*\n"
    return re.search(pattern, normalised(output) + "\n") is not None


# -- tests


@these("python")
def test_python_compiles(block):
    """Every block of Python is Python."""
    compile(block.text, block.name, "exec")


@these("toml")
def test_toml(block):
    """Every block of TOML is TOML."""
    assert tomllib.loads(block.text)


@these("ini")
def test_ini(block):
    """Every ini file can be read."""
    parser = ConfigParser()
    parser.read_string(block.text)
    assert parser.sections()


@these("yaml")
def test_yaml(block):
    """Every recipe is YAML; where no library reads it, it at least looks like it."""
    try:
        import yaml
    except ImportError:
        indents = [0]
        for line in block.text.splitlines():
            indent = len(line) - len(line.lstrip())
            assert re.fullmatch(r"(- )?([\w.-]+: .+|[\w.-]+:|[^:]+|[\w\"-].*)", line.strip()), line
            assert indent % 2 == 0
            assert indent <= indents[-1] + 4
            indents.append(indent)
    else:
        assert isinstance(yaml.safe_load(block.text), dict)


@pytest.mark.gate("README.md", "getting-started.rst", "markers.rst", "budgets.rst", "fixtures.rst")
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.caption.startswith("test") for b in blocks(page))], ids=lambda p: p.name
)
def test_tests_of_a_page_pass(page, tmp_path):
    """All tests that a page shows pass, in one project made of its blocks."""
    if page.stem == "databases":
        pytest.importorskip("django")
    pools = "prefork,gevent" if page.stem in GREEN else "prefork,solo"
    status, output = run_pytest(tmp_path, f"--celery-pools={pools}", *project(page, tmp_path))
    assert status == 0, output


@these("console", run=True)
def test_command_prints_what_the_page_shows(block, tmp_path):
    """A command that a page shows with its output prints that."""
    folder = tmp_path
    if "in" in block.order.split():
        shutil.copytree(
            ROOT / block.option("in", ""), folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
        )
    else:
        project(block.page, folder)
    for part in re.split(r"(?m)^\$ ", block.text)[1:]:
        command, _, expected = part.partition("\n")
        program, *arguments = command.split()
        assert program == "pytest"
        status, output = run_pytest(folder, *arguments)
        assert shows(output, expected), f"expected:\n{expected}\n\nfound:\n{output}"
    assert status == int(block.option("exit", "0")), output


@pytest.mark.gate("markers")
@pytest.mark.parametrize("name", SHOWN)
def test_messages_are_those_of_the_package(name, tmp_path):
    """Every message that a page quotes is printed where it says."""
    if name == "databases":
        pytest.importorskip("django")
    page = DOCS / f"{name}.rst"
    project(page, tmp_path)
    printed = ""
    for folder, arguments in SHOWN[name]:
        status, output = run_pytest(tmp_path / folder, *arguments)
        assert status in (0, 1), output
        printed += output
    # A note at the end of a run is wrapped.
    printed += re.sub(r"\n +(?=\S)", " ", printed)
    missing = [block for block in blocks(page) if block.language == "text" and not shows(printed, block.text)]
    assert not missing, f"{missing}\n\nfound:\n{printed}"


@pytest.mark.slow
def test_the_example_passes_under_every_pool():
    """The project of the README's first command passes under all pools."""
    status, output = run_pytest(EXAMPLES / "shop", "--celery-pools=all")
    assert status == 0, output
    assert shows(output, "tests/test_shop.py prefork solo threads gevent eventlet")


@pytest.mark.parametrize(
    ("expected", "output"),
    [
        ("a\n…\nc", "x\na\nb\nc\n"),
        ("took … of", "took about 3 ms of"),
        ("in 1.2s", "in 3.40s"),
        ("proj.add[1a2b3c4d](2)", "proj.add[00000000](2)"),
        ("not ended:\n  it runs", "E   not ended:\nE     it runs"),
    ],
)
def test_shows(expected, output):
    """What differs from run to run is passed over."""
    assert shows(output, expected)


@pytest.mark.parametrize(("expected", "output"), [("a\nc", "a\nb\nc\n"), ("ok 3", "ok 2"), ("c\n…\na", "a\nb\nc\n")])
def test_shows_not(expected, output):
    """What does not, is not."""
    assert not shows(output, expected)
