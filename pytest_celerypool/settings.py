"""The options and ini values of a run, read once into one frozen `Settings`.

Every option has an ini key of the same name. The command line beats the ini file, and of an option that is
given twice the last counts. Each value is checked here, with a message that names where it came from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from .errors import SettingError, did_you_mean
from .pools import POOLS, Pool, default_concurrency, parse_pools, pool
from .surface import OPTIONS, given

if TYPE_CHECKING:
    import pytest

EMBEDDED = "embedded"
APP: Final = "app"
Launch = Literal["subprocess", "inprocess"]
LAUNCHES: Final[tuple[Launch, ...]] = ("subprocess", "inprocess")
DEFAULT = "default"

DEFAULT_TIMEOUT = 10.0


@dataclass(frozen=True)
class Concurrency:
    """How many slots a worker gets: a number for all pools, numbers for single ones, or the application's."""

    #: What holds for every pool that is not named: a number, `APP`, or None for each pool's default.
    others: int | Literal["app"] | None = None
    named: Mapping[Pool, int] = field(default_factory=dict)
    source: str = DEFAULT

    def __str__(self) -> str:
        parts = [] if self.others is None else [str(self.others)]
        parts += [f"{each}={slots}" for each, slots in self.named.items()]
        return ",".join(parts) or DEFAULT

    @classmethod
    def parse(cls, text: str, source: str) -> Concurrency:
        """Read ``"4"``, ``"app"``, ``"gevent=200,prefork=2"`` or a mixture; raises SettingError."""
        others: int | Literal["app"] | None = None
        named: dict[Pool, int] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, equals, number = (piece.strip() for piece in part.rpartition("="))
            if equals:
                each = _named_pool(name, source)
                if each in named:
                    raise SettingError(f"{source}: {name!r} is given twice in {text!r}.")
                named[each] = _slots(number, part, source)
            elif others is not None:
                raise SettingError(
                    f"{source}: {text!r} says twice what holds for the pools that it does not name. "
                    "Name a pool, as in gevent=200, or give one number."
                )
            else:
                others = APP if part == APP else _slots(part, part, source)
        if others is None and not named:
            raise SettingError(f"{source}: no number is given. {_SLOTS_HELP}")
        return cls(others, named, source)

    def for_pool(self, pool: Pool, processors: int, xdist_nodes: int) -> int | None:
        """Return the slots of a worker of that pool; None where Celery and the application shall decide.

        ``processors`` is how many this machine has, ``xdist_nodes`` how many nodes share them (0: no xdist).
        """
        if pool in self.named:
            return self.named[pool]
        if isinstance(self.others, str):
            return None
        if self.others is None:
            return default_concurrency(pool, processors, xdist_nodes)
        return self.others if pool.takes_concurrency else 1

    def check(self, pools: Iterable[Pool], processors: int) -> None:
        """Refuse a number for all pools that is far too much for one of those that will run.

        Raises SettingError, which shows how to name the pool if the number is meant for it.
        """
        if not isinstance(self.others, int):
            return
        for each in pools:
            most = _plausible(each, processors)
            if most is not None and self.others > most and each not in self.named:
                raise SettingError(
                    f"{self.source}: {self.others} slots are too many for {each}, which gets at most {most} "
                    f"from a number for all pools. If you mean it, name the pool: {each}={self.others}"
                )

    def warnings(self) -> tuple[str, ...]:
        """Return a text for every number that is passed on, but that its pool ignores."""
        return tuple(
            f"{self.source}: {each}={slots} is passed on, but the pool {each} ignores it: it runs one task at a time."
            for each, slots in self.named.items()
            if slots > 1 and not each.takes_concurrency
        )


#: What a ratchet can be set on.
RATCHET_MEASURES: Final = ("runtime", "cpu", "hold", "queued")


@dataclass(frozen=True)
class Ratchet:
    """How much worse than its baseline a figure may be.

    :ivar percentile: of the executions; 100 is the maximum.
    :ivar tolerance: the part of the baseline by which it may be exceeded: 0.2 is a fifth.
    """

    measure: str
    percentile: float
    tolerance: float

    @property
    def statistic(self) -> str:
        """The statistic as users write it."""
        return "max" if self.percentile == 100 else f"p{self.percentile:g}"

    def __str__(self) -> str:
        return f"{self.measure}:{self.statistic}:+{self.tolerance:.6%}".rstrip("%").rstrip("0").rstrip(".") + "%"

    @classmethod
    def parse(cls, text: str, source: str) -> Ratchet:
        """Read ``"p95:+20%"`` or ``"cpu:max:+10%"``; raises SettingError."""
        *measures, statistic, tolerance = ["", "", *(part.strip() for part in text.split(":"))]
        measures = [each for each in measures if each] or ["runtime"]
        if len(measures) > 1 or not re.fullmatch(r"\+\d+(\.\d+)?%", tolerance):
            raise SettingError(f"{source}: {text!r} is not valid. {_RATCHET_HELP}")
        if measures[0] not in RATCHET_MEASURES:
            raise SettingError(
                f"{source}: {measures[0]!r} in {text!r} is not a measure. Valid: {', '.join(RATCHET_MEASURES)}."
                f"{did_you_mean(measures[0], RATCHET_MEASURES)}"
            )
        match = re.fullmatch(r"p(\d+(?:\.\d+)?)", statistic)
        percentile = 100.0 if statistic == "max" else float(match[1]) if match else 0.0
        if not (statistic == "max" or 1 <= percentile <= 99):
            raise SettingError(
                f"{source}: {statistic!r} in {text!r} is not a statistic. Valid: p1 to p99, as in p95, or max."
            )
        return cls(measures[0], percentile, float(tolerance[1:-1]) / 100)


_RATCHET_HELP = "Valid: [MEASURE:]STATISTIC:+N%, separated by commas, as in p95:+20% or cpu:max:+10%."


@dataclass(frozen=True)
class Settings:
    """What the options and the ini file ask for, each value checked."""

    #: None where nobody chose pools: each test's marker decides, or the default.
    pools: tuple[Pool, ...] | None = None
    #: ``MODULE``, ``MODULE:ATTR`` or ``MODULE:FACTORY()``; None for the `celery_pool_app` fixture.
    app: str | None = None
    launch: Launch = "subprocess"
    concurrency: Concurrency = Concurrency()
    #: ``"embedded"``, ``"app"`` or a URL.
    broker: str = EMBEDDED
    backend: str = EMBEDDED
    #: Seconds.
    timeout: float = DEFAULT_TIMEOUT
    #: How often each test's tasks are sent again, all at once; 0: not at all.
    stress: int = 0
    #: Decides the order in which they are; empty: one is drawn for the run.
    stress_seed: str = ""
    #: How often at most a task that broke its budget is sent again; 0: not at all.
    budget_confirm: int = 0
    #: The file of what tasks took in earlier runs; None: there is none.
    baseline: Path | None = None
    #: By how much they may be exceeded; empty: nobody compares.
    budget_ratchet: tuple[Ratchet, ...] = ()
    #: Whether to say which pool and how many slots suit each task.
    advise: bool = False
    #: Name of a field to where its value came from: ``"--celery-app"``, ``"celery_app in tox.ini"`` or
    #: ``"default"``.
    sources: Mapping[str, str] = field(default_factory=dict)

    def chosen(self) -> bool:
        """Return whether anybody gave any of the values."""
        return any(source != DEFAULT for source in self.sources.values())

    @property
    def wants_evidence(self) -> bool:
        """Whether anybody wants to know what the tasks of tests took, budget or not."""
        return self.baseline is not None or self.advise


def from_config(config: pytest.Config) -> Settings:
    """Read the options and the ini file; raises SettingError for the first value that is wrong."""
    found = {name: given(config, name) for name in OPTIONS}
    sources = {name: DEFAULT if value is None else value[1] for name, value in found.items()}
    pools, app, concurrency = found["pools"], found["app"], found["concurrency"]
    launch, ratchet = found["launch"], found["budget_ratchet"]
    broker, backend, timeout = found["broker"], found["backend"], found["timeout"]
    return Settings(
        pools=None if pools is None else parse_pools(_texts(*pools), pools[1], own=True),
        app=None if app is None else _app(*app),
        launch="subprocess" if launch is None else _launch(*launch),
        concurrency=(
            Concurrency() if concurrency is None else Concurrency.parse(",".join(_texts(*concurrency)), concurrency[1])
        ),
        broker=EMBEDDED if broker is None else _broker(*broker),
        backend=EMBEDDED if backend is None else _backend(*backend),
        timeout=DEFAULT_TIMEOUT if timeout is None else _timeout(*timeout),
        stress=0 if found["stress"] is None else _stress(*found["stress"])[0],
        stress_seed="" if found["stress"] is None else _stress(*found["stress"])[1],
        budget_confirm=0 if found["budget_confirm"] is None else _confirm(*found["budget_confirm"]),
        baseline=None if found["baseline"] is None else config.rootpath / _file(*found["baseline"]),
        budget_ratchet=() if ratchet is None else _ratchets(*ratchet, found["baseline"] is not None),
        advise=found["advise"] is not None and _flag(*found["advise"]),
        sources=sources,
    )


def hide_password(url: str) -> str:
    """Return the URL, or several of them, as they may be shown: with ``***`` in place of a password."""
    return re.sub(_PASSWORD, r"\1***@", url)


def _texts(value: object, source: str) -> list[str]:
    """Return the items of a list as strings; a single string or number is a list of one."""
    items = value if isinstance(value, list) else [value]
    for item in items:
        if isinstance(item, bool) or not isinstance(item, str | int):
            raise SettingError(f"{source}: {item!r} is neither a string nor a number. Valid: a string or a list.")
    return [str(item) for item in items]


def _text(value: object, source: str) -> str:
    """Return a single value as a string without surrounding blanks."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise SettingError(f"{source}: {value!r} is not a single value. Valid: a string or a number.")
    return str(value).strip()


_APP = r"[^\W\d]\w*(\.[^\W\d]\w*)*(:[^\W\d]\w*(\(\))?)?"


def _app(value: object, source: str) -> str:
    text = _text(value, source)
    if not re.fullmatch(_APP, text):
        raise SettingError(
            f"{source}: {text!r} does not name an application. Valid: MODULE, MODULE:ATTR or "
            "MODULE:FACTORY(), as in proj.celery:app; a factory is called without arguments."
        )
    return text


def _launch(value: object, source: str) -> Launch:
    text = _text(value, source)
    for launch in LAUNCHES:
        if text == launch:
            return launch
    valid = " or ".join(LAUNCHES)
    raise SettingError(f"{source}: {text!r} is not a launch. Valid: {valid}.{did_you_mean(text, LAUNCHES)}")


_SCHEME = r"([A-Za-z][A-Za-z0-9+.\-]*)://"

#: User and colon, then a password up to the last @ of a URL; several URLs are separated by semicolons.
_PASSWORD = r"((?:^|;)(?:[\w+.\-]+://)?[^:@/;\s]*:(?!//))[^;\s]*@"

_BROKERS = ("redis", "rediss", "redis+socket", "amqp", "amqps", "pyamqp")
_BROKER_URLS = f"a URL that begins with one of {', '.join(f'{each}://' for each in _BROKERS)}"


def _broker(value: object, source: str) -> str:
    text = _url(value, source, _BROKER_URLS)
    match = re.match(_SCHEME, text)
    if match is None or match[1] in _BROKERS:
        return text
    if match[1] == "memory":
        why = " A worker is a process of its own, and memory:// does not leave the process it is used in."
    else:
        why = did_you_mean(match[1], _BROKERS)
    raise SettingError(
        f"{source}: {match[1]}:// is not a broker that tests can run on. "
        f"Valid: {EMBEDDED}, {APP}, or {_BROKER_URLS}.{why}"
    )


def _backend(value: object, source: str) -> str:
    return _url(value, source, "a URL, such as redis://…, rpc:// or db+postgresql://…")


def _url(value: object, source: str, urls: str) -> str:
    """Return ``embedded``, ``app`` or something with a scheme; ``urls`` says which URLs are valid."""
    text = _text(value, source)
    if text in (EMBEDDED, APP) or (re.match(_SCHEME, text) and not re.search(r"\s", text)):
        return text
    shown = hide_password(text)
    raise SettingError(
        f"{source}: {shown!r} is neither {EMBEDDED} nor {APP} nor a URL. Valid: {EMBEDDED}, {APP}, or {urls}."
        f"{did_you_mean(text, (EMBEDDED, APP, *(f'{each}://' for each in _BROKERS)))}"
    )


def _timeout(value: object, source: str) -> float:
    text = _text(value, source)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (seconds > 0 and math.isfinite(seconds)):
        raise SettingError(f"{source}: {text!r} is not a timeout. Valid: a number of seconds above 0, as in 10 or 2.5.")
    return seconds


def _stress(value: object, source: str) -> tuple[int, str]:
    """Return how often, and the seed of the order."""
    text = _text(value, source)
    times, _, seed = text.partition(":")
    if text in ("off", "0"):
        return 0, ""
    if not (times.isascii() and times.isdigit() and int(times) > 1):
        raise SettingError(
            f"{source}: {text!r} is not valid. Valid: a whole number above 1, off, or N:SEED to repeat an order."
        )
    return int(times), seed


def _confirm(value: object, source: str) -> int:
    text = _text(value, source)
    if text != "off" and not (text.isascii() and text.isdigit()):
        raise SettingError(f"{source}: {text!r} is not valid. Valid: a whole number of repetitions, or off.")
    return 0 if text == "off" else int(text)


def _file(value: object, source: str) -> str:
    text = _text(value, source)
    if not text:
        raise SettingError(f"{source}: no file is named. Valid: the path of a JSON file, as in celery-baseline.json.")
    return text


def _ratchets(value: object, source: str, baseline: bool) -> tuple[Ratchet, ...]:
    texts = [part.strip() for text in _texts(value, source) for part in text.split(",") if part.strip()]
    if texts == ["off"]:
        return ()
    if not texts:
        raise SettingError(f"{source}: nothing is given. {_RATCHET_HELP}")
    found: dict[tuple[str, float], Ratchet] = {}
    for text in texts:
        each = Ratchet.parse(text, source)
        if found.setdefault((each.measure, each.percentile), each) is not each:
            raise SettingError(f"{source}: {each.measure}:{each.statistic} is given twice in {','.join(texts)!r}.")
    if not baseline:
        raise SettingError(
            f"{source}: there is nothing to compare with. Name the file of earlier runs too, as in "
            "--celery-baseline=celery-baseline.json."
        )
    return tuple(found.values())


_FLAG: Mapping[str, bool] = {"true": True, "yes": True, "on": True, "1": True} | dict.fromkeys(
    ("false", "no", "off", "0", ""), False
)


def _flag(value: object, source: str) -> bool:
    """Read a flag, which an ini file may give as a TOML value or a word."""
    text = str(value).strip().lower()
    if text not in _FLAG:
        raise SettingError(f"{source}: {value!r} is not valid. Valid: true or false.{did_you_mean(text, _FLAG)}")
    return _FLAG[text]


_SLOTS_HELP = "Valid: a number above 0, app, or POOL=NUMBER for single pools, as in gevent=200,prefork=2."


def _slots(number: str, part: str, source: str) -> int:
    """Return a number of slots; ``part`` is what it stands in, for the message."""
    # int() alone would take "+4", "1_000" and digits of other scripts.
    if not (number.isascii() and number.isdigit() and int(number) > 0):
        raise SettingError(f"{source}: {part!r} is not a concurrency. {_SLOTS_HELP}")
    return int(number)


def _named_pool(name: str, source: str) -> Pool:
    try:
        return pool(name)
    except KeyError:
        names = [each.name for each in POOLS]
        raise SettingError(
            f"{source}: {name!r} is not a pool. Valid pools: {', '.join(names)}, or pkg.module:TaskPool."
            f"{did_you_mean(name, names)}"
        ) from None


def _plausible(pool: Pool, processors: int) -> int | None:
    """Return how many slots of that pool a number meant for all pools may ask for; None if any."""
    if not pool.takes_concurrency or pool.custom:
        return None
    if pool.forks:
        return 4 * max(1, processors)
    return 5000 if pool.green else 500
