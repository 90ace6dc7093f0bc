import random
import re
import unicodedata

import pytest

from pytest_celerypool.report.matrix import Cell, merge, render

POOLS = ["prefork", "solo", "threads", "gevent", "eventlet"]
WORDS = {
    "passed": "ok",
    "failed": "FAIL",
    "error": "error",
    "skipped": "skip",
    "xfailed": "xfail",
    "xpassed": "xpass",
}


def show(cells, columns=POOLS, *, width=80, verbosity=0, color=False):
    return render(cells, columns, width=width, verbosity=verbosity, color=color)


def many(number, file="tests/test_shop.py", outcomes=None):
    """Return the cells of so many tests, passed but for what `outcomes` says of (number, pool)."""
    return [
        Cell(f"{file}::test_{each}", pool, (outcomes or {}).get((each, pool), "passed"))
        for each in range(number)
        for pool in POOLS
    ]


def plain(line):
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


def columns_of(line):
    """Count a terminal's columns on its own, so that the code under test is not its own judge."""
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in line
    )


def row_of(lines, name):
    """Return the words of the one row of a test or total."""
    (line,) = [line for line in lines if re.match(rf"\s*{re.escape(name)}\s", line)]
    return line.strip()[len(name) :].split()


# --- merging


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("passed", "skipped"),
        ("skipped", "xfailed"),
        ("xfailed", "xpassed"),
        ("xpassed", "error"),
        ("error", "failed"),
        ("passed", "failed"),
    ],
)
def test_merge_keeps_the_worse_outcome(better, worse, order):
    """Whichever node reported first."""
    cells = [Cell("a.py::t", "solo", better), Cell("a.py::t", "solo", worse)][::order]
    assert merge(cells) == [Cell("a.py::t", "solo", worse)]


@pytest.mark.parametrize("order", [1, -1])
def test_merge_keeps_the_greatest_share(order):
    """The budget that was nearer to its limit is told, even if the other cell has the worse outcome."""
    cells = [
        Cell("a.py::t", "solo", "passed", "92% runtime", 0.92),
        Cell("a.py::t", "solo", "failed", "40% runtime", 0.4),
        Cell("a.py::t", "solo", "passed"),
    ]
    assert merge(cells[::order]) == [Cell("a.py::t", "solo", "failed", "92% runtime", 0.92)]


def test_merge_keeps_a_budget_of_which_nothing_was_used():
    """A share of 0 with a text is more than no budget."""
    cells = [Cell("a.py::t", "solo", "passed"), Cell("a.py::t", "solo", "passed", "0% cpu", 0.0)]
    assert merge(cells)[0].nearest == "0% cpu"


def test_merge_leaves_others_apart_and_in_order():
    """Other tests and other columns are other cells."""
    cells = [Cell("b", "solo", "passed"), Cell("a", "solo", "failed"), Cell("b", "gevent-100", "skipped")]
    assert merge(cells) == cells
    assert merge([]) == []


# --- what stands in the table


@pytest.mark.parametrize("verbosity", [-2, -1, 0, 1])
def test_no_cells_give_no_lines(verbosity):
    """A session in which no test ran under a pool has no matrix."""
    assert show([], verbosity=verbosity) == []


@pytest.mark.parametrize(("outcome", "word"), WORDS.items())
def test_each_outcome_has_its_word(outcome, word):
    """In its cell, and in the totals."""
    lines = show([Cell("a.py::test_x", "solo", outcome)], ["solo"])
    assert row_of(lines, "test_x") == [word]
    assert row_of(lines, f"total {word}") == ["1"]


def test_a_whole_matrix():
    """What a user sees: the pools, the tests, what became of them, and the totals."""
    cells = [
        *(Cell("tests/test_shop.py::test_charge", pool, "passed") for pool in POOLS),
        *(Cell("tests/test_shop.py::test_limit", pool, "passed" if pool == "prefork" else "failed") for pool in POOLS),
        Cell("tests/test_shop.py::test_fork", "prefork", "passed"),
    ]
    assert show(cells) == [
        "tests/test_shop.py  prefork  solo  threads  gevent  eventlet",
        "  test_charge            ok    ok       ok      ok        ok",
        "  test_limit             ok  FAIL     FAIL    FAIL      FAIL",
        "  test_fork              ok     -        -       -         -",
        "total ok                  3     1        1       1         1",
        "total FAIL                0     1        1       1         1",
    ]


def test_columns_keep_the_given_order_and_may_name_slots():
    """The order is that of the run's pools, not that in which they reported."""
    columns = ["threads", "gevent-100", "gevent-1000"]
    lines = show([Cell("a.py::test_x", column, "passed") for column in reversed(columns)], columns)
    assert lines[0].split() == ["a.py", *columns]


def test_cells_of_other_columns_are_left_out():
    """Only the given columns are shown."""
    assert show([Cell("a.py::test_x", "solo", "passed")], ["gevent"]) == []


def test_rows_keep_their_order_below_the_names_of_their_files():
    """Tests of a file stand together, in order of appearance; each file is named once."""
    tests = ["z.py::test_2", "a.py::test_b", "z.py::test_1", "a.py::test_a"]
    lines = show([Cell(test, "solo", "passed") for test in tests], ["solo"])
    assert [line.split()[0] for line in lines[1:-1]] == ["z.py", "test_2", "test_1", "a.py", "test_b", "test_a"]


def test_a_single_file_is_named_once():
    """Its name heads the column of its tests."""
    assert "\n".join(show(many(5))).count("test_shop.py") == 1


def test_an_id_without_a_file_is_a_row():
    """Other plugins' items may have any id."""
    assert row_of(show([Cell("anything", "solo", "passed")], ["solo"]), "anything") == ["ok"]


# --- budgets


def judged(name="test_x"):
    return [
        Cell(f"a.py::{name}", "solo", "passed", "runtime 40% (80 ms of 200 ms)", 0.4),
        Cell(f"a.py::{name}", "gevent", "passed", "runtime 92% (184 ms of 200 ms)", 0.92),
        Cell(f"a.py::{name}", "threads", "passed"),
    ]


def test_the_nearest_budget_stands_at_the_end_of_its_row():
    """It is that with the greatest share, with the pool it was under, below a heading that says what it is."""
    lines = show(judged(), width=120)
    assert lines[0].endswith("  nearest budget")
    assert lines[1].endswith("  runtime 92% (184 ms of 200 ms) gevent")
    assert "40%" not in "\n".join(lines)


def test_the_nearest_budget_is_brief_where_it_must():
    """A narrower terminal costs it its figures first."""
    lines = show(judged(), ["solo", "threads", "gevent"], width=60)
    assert lines[1].endswith("  runtime 92% gevent")


def test_the_nearest_budget_stands_below_where_names_need_the_room():
    """A test's name matters more than having its budget on the same line."""
    lines = show(judged("test_that_has_a_rather_long_name"), width=80)
    assert "nearest budget" not in lines[0]
    assert lines[2] == "    nearest budget: runtime 92% (184 ms of 200 ms) gevent"
    assert "    nearest budget: runtime 92% gevent" in show(judged("test_that_has_a_rather_long_name"), width=40)


def test_the_nearest_budget_is_shown_once_in_split_tables():
    """It stands in the table that has its pool."""
    text = "\n".join(show(judged(), width=40))
    assert text.count("92%") == 1
    assert text.index("92%") > text.index(" gevent")


def test_without_budgets_there_is_no_heading_of_them():
    """Most suites have none."""
    assert not any("budget" in line for line in show(many(5), width=200))


# --- folding


def test_up_to_twenty_tests_have_their_rows():
    """Nothing is folded where all of it is readable."""
    assert len(show(many(20))) == 1 + 20 + 1


def test_many_tests_that_passed_are_one_line():
    """Five hundred tests of which three failed are a handful of lines; the totals still count all."""
    lines = show(many(500, outcomes={(each, "gevent"): "failed" for each in (7, 70, 300)}))
    assert [line.split()[0] for line in lines[1:4]] == ["test_7", "test_70", "test_300"]
    assert lines[4] == "… and 497 tests: ok under every pool"
    assert row_of(lines, "total ok") == ["500", "500", "500", "497", "500"]
    assert row_of(lines, "total FAIL") == ["0", "0", "0", "3", "0"]
    assert len(lines) == 7


def test_if_all_passed_there_is_no_other_row_to_add_to():
    """The one line is no remainder."""
    assert "500 tests: ok under every pool" in show(many(500))


def test_one_folded_test_is_a_test():
    """Not a tests."""
    failed = {(each, "solo"): "failed" for each in range(20)}
    assert "… and 1 test: ok under every pool" in show(many(21, outcomes=failed))


@pytest.mark.parametrize("outcome", ["failed", "error", "xfailed", "xpassed", "skipped"])
def test_a_test_with_anything_else_is_shown(outcome):
    """Even if only one pool differs."""
    lines = show(many(500, outcomes={(123, "eventlet"): outcome}))
    assert row_of(lines, "test_123") == ["ok"] * 4 + [WORDS[outcome]]
    assert "… and 499 tests: ok under every pool" in lines


def test_tests_skipped_under_every_pool_are_folded():
    """They say nothing of pools."""
    skipped = {(each, pool): "skipped" for each in (3, 4) for pool in POOLS}
    lines = show(many(500, outcomes=skipped))
    assert lines[1:3] == ["498 tests: ok under every pool", "… and 2 tests: skipped under every pool"]


def test_tests_for_some_pools_are_not_said_to_be_ok_under_all():
    """A marker may keep a test from a pool."""
    cells = many(30) + [Cell(f"tests/test_shop.py::fork_{each}", "prefork", "passed") for each in range(4)]
    assert "… and 4 tests: ok under the pools they are for" in show(cells)


def test_a_pool_that_skips_everything_does_not_unfold_all():
    """Its library may be missing."""
    lines = show(many(500, outcomes={(each, "eventlet"): "skipped" for each in range(500)}))
    assert "500 tests: ok under every pool but eventlet" in lines
    assert row_of(lines, "total skip") == ["0", "0", "0", "0", "500"]


def test_the_nearest_budget_of_folded_tests_is_told():
    """Folding does not hide how near the limits are."""
    cells = [
        Cell(f"a.py::test_{each}", "solo", "passed", f"{each}% runtime", each / 100)
        for each in random.Random(1).sample(range(90), 90)
    ]
    assert "nearest budget among these: 89% runtime solo, a.py::test_89" in show(cells, ["solo"])


@pytest.mark.parametrize("verbosity", [1, 2])
def test_verbose_shows_every_row(verbosity):
    """That is what -v is for."""
    lines = show(many(500), verbosity=verbosity)
    assert len(lines) == 1 + 500 + 1
    assert not any("…" in line for line in lines)


# --- quiet


@pytest.mark.parametrize("number", [5, 500])
def test_quiet_says_one_line_if_all_is_ok(number):
    """With all pools that had the same totals together."""
    assert show(many(number), verbosity=-1) == [
        f"celery pools: {number} ok under prefork, solo, threads, gevent, eventlet"
    ]


def test_quiet_says_one_short_line_on_a_narrow_terminal():
    """Too short to name the pools."""
    assert show(many(5), verbosity=-1, width=40) == ["celery pools: 5 tests, all ok"]
    assert show(many(1), verbosity=-1, width=40) == ["celery pools: 1 test, all ok"]


def test_quiet_shows_what_failed():
    """The rows that failed and the totals in a line; a skip is no failure."""
    outcomes = {(1, "gevent"): "failed", (2, "solo"): "skipped", (3, "gevent"): "error"}
    lines = show(many(30, outcomes=outcomes), verbosity=-1)
    assert [line.split()[0] for line in lines[:3]] == ["tests/test_shop.py", "test_1", "test_3"]
    assert " ".join(map(str.strip, lines[3:])) == (
        "celery pools: 30 ok under prefork, threads, eventlet; 29 ok, 1 skip under solo; "
        "28 ok, 1 FAIL, 1 error under gevent"
    )


def test_quiet_says_where_a_pool_had_fewer_tests():
    """A tally does not claim more than was run."""
    cells = [Cell("a.py::test_x", "solo", "passed"), Cell("a.py::test_x", "prefork", "passed")]
    lines = show([*cells, Cell("a.py::test_y", "prefork", "passed")], ["prefork", "solo"], verbosity=-1)
    assert lines == ["celery pools: 2 ok under prefork; 1 ok under solo"]


# --- colours


@pytest.mark.parametrize("verbosity", [-1, 0, 1])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_colours_change_nothing_but_colours(width, verbosity):
    """Without its escape codes a coloured line is the plain one, so widths are computed without them."""
    cells = many(30, outcomes={(n, POOLS[n % 5]): outcome for n, outcome in enumerate(WORDS)}) + judged()
    colored = show(cells, width=width, verbosity=verbosity, color=True)
    without = show(cells, width=width, verbosity=verbosity)
    assert [plain(line) for line in colored] == without
    assert colored != without
    assert not any("\x1b" in line for line in without)


@pytest.mark.parametrize(
    ("outcome", "code"),
    [("passed", 32), ("failed", 31), ("error", 31), ("skipped", 33), ("xfailed", 33), ("xpassed", 33)],
)
def test_each_outcome_has_its_colour(outcome, code):
    """Green is fine, red is not, yellow is in between; also in the tally."""
    cells = [Cell("a.py::test_x", "solo", outcome)]
    assert f"\x1b[{code}m{WORDS[outcome]}\x1b[0m" in show(cells, ["solo"], color=True)[1]
    assert f"\x1b[{code}m1 {WORDS[outcome]}\x1b[0m" in show(cells, ["solo"], color=True, verbosity=-1)[-1]


# --- widths


def test_a_long_file_name_keeps_its_end():
    """Folders are the same for many files."""
    line = show([Cell(f"tests/{'very/' * 30}test_shop.py::test_x", "solo", "passed")], ["solo"], width=60)[0]
    assert re.match(r"tests/very/.*….*/test_shop\.py  ", line)


@pytest.mark.parametrize("width", [40, 80])
def test_a_long_test_name_keeps_its_ends(width):
    """What distinguishes tests is mostly at the end."""
    line = show([Cell(f"a.py::test_import_{'of_many_rows_' * 20}ends", "solo", "passed")], ["solo"], width=width)[1]
    assert re.match(r"  test_import_\w*…\w*_rows_ends +ok$", line)


def test_long_parameters_leave_room_for_the_test():
    """A test's own parameters do not push out its name, nor it them."""
    name = f"test_import_of_{'many_' * 20}rows[{'param-' * 20}last]"
    line = show([Cell(f"a.py::{name}", "solo", "passed")], ["solo"], width=80)[1]
    assert re.match(r"  test_import.*….*_rows\[param.*….*-last\] +ok$", line)


def test_wide_characters_take_two_columns():
    """Columns stay aligned beside ids in any script."""
    cells = [Cell("a.py::test_支払い[日本]", "solo", "passed"), Cell("a.py::test_cafe\u0301", "solo", "passed")]
    lines = show(cells, ["solo"])
    assert len({columns_of(line) for line in lines}) == 1


def test_control_characters_are_escaped():
    """An id cannot break the table."""
    lines = show([Cell("a.py::test_x[\n\x1b[31m\t]", "solo", "passed")], ["solo"])
    assert len(lines) == 3
    assert lines[1].split()[0] == r"test_x[\n\x1b[31m\t]"


@pytest.mark.parametrize(("width", "tables"), [(40, 3), (80, 1), (200, 1)])
def test_columns_that_do_not_fit_are_split_into_tables(width, tables):
    """Every table has every row, its own pools and their totals; each pool is in one of them."""
    lines = show(many(5, outcomes={(1, "solo"): "error"}), width=width)
    headings = [line.split()[1:] for line in lines if line.startswith("tests/")]
    assert len(headings) <= tables
    assert [pool for heading in headings for pool in heading] == POOLS
    assert sum("test_4" in line for line in lines) == len(headings)
    assert sum("total ok" in line for line in lines) == len(headings)


def test_many_columns_are_split_into_tables():
    """As an axis of slots may have it."""
    columns = [f"gevent-{2**n}" for n in range(12)]
    lines = show([Cell("a.py::test_x", column, "passed") for column in columns], columns)
    assert [word for line in lines for word in line.split() if word.startswith("gevent")] == columns
    assert lines.count("") == sum(line.startswith("a.py") for line in lines) - 1


def test_the_name_of_a_custom_pool_is_shortened_if_it_must():
    """Its end is the name of its class."""
    columns = ["prefork", "some_company.celery_pools.special:FairTaskPool"]
    cells = [Cell("a.py::test_x", column, "passed") for column in columns]
    assert columns[1] in show(cells, columns, width=200)[0]
    assert re.search(r" some\w+….*TaskPool$", show(cells, columns, width=40)[0])


ALPHABET = "abc_xyz-[]::/.  支é\u0301😀\n…"


def _random_cells(rng):
    columns = rng.sample([*POOLS, "gevent-100", "gevent-5000", "pkg.module:TaskPool", "ein:Größerer支払いPool"], 6)
    files = ["".join(rng.choices(ALPHABET, k=rng.randrange(1, 90))) for _ in range(rng.randrange(1, 4))]
    cells = []
    for number in range(rng.choice([1, 5, 19, 40])):
        name = f"{rng.choice(files)}::test{number}{''.join(rng.choices(ALPHABET, k=rng.randrange(120)))}"
        usual = rng.choice(["passed", *WORDS])
        for column in rng.sample(columns, rng.randrange(1, 6)):
            text = rng.choice(["", "92% runtime", "runtime 92% (184 ms of 200 ms)", "x" * rng.randrange(150)])
            cells.append(Cell(name, column, rng.choice([usual] * 9 + [*WORDS]), text, rng.random()))
    return cells, columns


@pytest.mark.parametrize("seed", range(60))
def test_no_line_is_wider_than_the_terminal(seed):
    """Whatever the tests, the columns and the terminal are; and every column's total counts every cell."""
    rng = random.Random(seed)
    cells, columns = _random_cells(rng)
    for width in (40, 47, 80, 120, 200):
        for verbosity in (-1, 0, 1):
            lines = [plain(line) for line in show(merge(cells), columns, width=width, verbosity=verbosity, color=True)]
            assert lines
            assert max(map(columns_of, lines)) <= width
            assert all(line.isprintable() for line in lines)
            if verbosity >= 0:
                totals = [int(word) for line in lines if line.startswith("total ") for word in line.split()[2:]]
                assert sum(totals) == len(merge(cells))


@pytest.mark.parametrize("number", [1, 5, 500])
@pytest.mark.parametrize("width", [1, 39])
def test_a_terminal_too_narrow_gets_the_narrowest_table(width, number):
    """pytest reports such widths where there is no terminal."""
    assert show(many(number), width=width) == show(many(number), width=40)
