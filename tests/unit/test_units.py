import pytest

from pytest_celerypool.units import format_bytes, format_seconds, parse_bytes, parse_seconds


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (2, 2.0),
        (0.25, 0.25),
        (0, 0.0),
        ("200ms", 0.2),
        ("1.5s", 1.5),
        (" 1.5 s ", 1.5),
        (".5s", 0.5),
        ("2min", 120.0),
        ("1h", 3600.0),
        ("300us", 300e-6),
        ("300\u00b5s", 300e-6),
        ("300\u03bcs", 300e-6),
    ],
)
def test_parse_seconds(given, expected):
    """A duration is a number of seconds or has a unit."""
    assert parse_seconds(given) == pytest.approx(expected)


@pytest.mark.parametrize(
    "given",
    ["200", "200 msec", "-1s", "1,5s", "", "s", "1e3s", -1, True, None, float("nan"), float("inf"), 10**400],
)
def test_parse_seconds_refuses(given):
    """A string without a unit, what is no number and what is below zero is refused."""
    with pytest.raises(ValueError, match=r"^$"):
        parse_seconds(given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1000, 1000),
        ("100kB", 100_000),
        ("100KB", 100_000),
        ("5MB", 5_000_000),
        ("20MiB", 20 * 2**20),
        ("1.5 GiB", 1.5 * 2**30),
        ("1GB", 10**9),
        ("3KiB", 3072),
        ("7B", 7),
    ],
)
def test_parse_bytes(given, expected):
    """A size is a number of bytes or has a unit, decimal or binary."""
    assert parse_bytes(given) == expected


@pytest.mark.parametrize("given", ["20", "20mb", "20M", "-1MB", "9" * 400 + "MB", False, [], -5])
def test_parse_bytes_refuses(given):
    """A unit in the wrong case may mean bits, and is refused."""
    with pytest.raises(ValueError, match=r"^$"):
        parse_bytes(given)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 \u00b5s"),
        (0.000312, "312 \u00b5s"),
        (0.0009996, "1.0 ms"),
        (0.0042, "4.2 ms"),
        (0.212, "212 ms"),
        (0.9996, "1.00 s"),
        (1.2, "1.20 s"),
        (9.996, "10.0 s"),
        (12.34, "12.3 s"),
        (59.96, "1 min 0 s"),
        (125, "2 min 5 s"),
        (-0.5, "-500 ms"),
    ],
)
def test_format_seconds(seconds, text):
    """Rounding never shows 1000 of a unit."""
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1023.9, "1.0 KiB"),
        (3.4 * 2**20, "3.4 MiB"),
        (2**20 - 1, "1.0 MiB"),
        (5 * 2**40, "5120.0 GiB"),
        (-2048, "-2.0 KiB"),
    ],
)
def test_format_bytes(size, text):
    """Sizes are shown in binary units."""
    assert format_bytes(size) == text
