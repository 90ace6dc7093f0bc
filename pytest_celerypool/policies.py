"""What findings do to their tests: the kinds there are, the policy and threshold of each, and where a detector lives.

Kinds are declared by the detectors, ours and those of other plugins; those that only the test process can see, by
:mod:`~pytest_celerypool.verdict.hazards`.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from pytest_celerypool.agent.detectors import BUILT_IN
from pytest_celerypool.errors import SettingError, did_you_mean
from pytest_celerypool.surface import given
from pytest_celerypool.trace import Kind, Policy
from pytest_celerypool.units import BYTES_HELP, SECONDS_HELP, format_bytes, format_seconds, parse_bytes, parse_seconds
from pytest_celerypool.verdict.hazards import KINDS

if TYPE_CHECKING:
    import pytest

    from pytest_celerypool.pools import Pool

POLICIES: tuple[Policy, ...] = get_args(Policy)


@dataclass(frozen=True)
class Policies:
    """The kinds of a run, and what the user said of them.

    :ivar kinds: every kind by its name.
    :ivar detectors: the paths ``module:Class`` of the detectors.
    :ivar everywhere: the policy of all kinds that are not named; ``None``: each kind's own.
    :ivar named: the policies of single kinds.
    :ivar limits: the thresholds that differ from the kinds' own.
    :ivar text: what of it was chosen, for the header; empty if nothing was.
    """

    kinds: Mapping[str, Kind]
    detectors: Sequence[str]
    everywhere: Policy | None = None
    named: Mapping[str, Policy] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    text: str = ""

    def of(self, kind: str) -> Policy:
        """Return the policy of a kind."""
        named = self.named.get(kind)
        if named is not None:
            return named
        known = self.kinds.get(kind)
        return self.everywhere or (known.policy if known is not None else "warn")

    def limit(self, kind: str) -> float:
        """Return the threshold of a kind that has one, in its unit."""
        value = self.limits.get(kind, self.kinds[kind].limit)
        assert value is not None
        return value

    def configuration(self, root: str, pool: Pool) -> dict[str, Any] | None:
        """Return what the agent of a worker needs of this, as plain data; ``None`` if everything is off.

        :param root: the project's root.
        :param pool: the worker's.
        """
        off = [name for name in self.kinds if self.of(name) == "off"]
        if len(off) == len(self.kinds):
            return None
        return {
            "detectors": list(self.detectors),
            "off": off,
            "limits": {name: self.limit(name) for name, kind in self.kinds.items() if kind.limit is not None},
            "root": root,
            "pool": pool.facts(),
        }


def from_config(config: pytest.Config, paths: Iterable[str]) -> Policies:
    """Read ``--celery-findings`` and ``--celery-limits`` and their ini keys.

    :param paths: the detectors of other plugins, ``module:Class`` each.
    :raises SettingError: a value is wrong, or a detector cannot be imported.
    """
    detectors = [*BUILT_IN, *paths]
    kinds = {kind.name: kind for path in detectors for kind in kinds_of(path)}
    kinds.update((kind.name, kind) for kind in KINDS)
    findings, limits = given(config, "findings"), given(config, "limits")
    everywhere, named = (None, {}) if findings is None else parse_findings(*_joined(*findings), kinds)
    return Policies(
        kinds,
        detectors,
        everywhere,
        named,
        {} if limits is None else parse_limits(*_joined(*limits), kinds),
        ", ".join(
            f"{name} {_joined(*value)[0]} ({value[1]})"
            for name, value in (("findings:", findings), ("limits:", limits))
            if value is not None
        ),
    )


def _joined(value: object, source: str) -> tuple[str, str]:
    """Return an option or a list of an ini file as one text."""
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) for item in items):
        raise SettingError(f"{source}: {value!r} is not valid. Valid: a string, or a list of strings.")
    return ",".join(str(item).strip() for item in items), source


def kinds_of(path: str) -> Sequence[Kind]:
    """Return the kinds of a detector.

    :param path: ``module:Class``.
    :raises SettingError: there is none.
    """
    module, _, name = path.partition(":")
    try:
        kinds: Sequence[Kind] = getattr(importlib.import_module(module), name).kinds
    except (ImportError, AttributeError) as exc:
        raise SettingError(
            f"pytest_celerypool_detectors: {path!r} names no detector: {exc}. Valid: 'package.module:Class', "
            "a subclass of pytest_celerypool.agent.detectors.Detector that a worker can import too."
        ) from None
    return kinds


def parse_findings(text: str, source: str, kinds: Mapping[str, Kind]) -> tuple[Policy | None, dict[str, Policy]]:
    """Read ``fail``, ``kind=policy,…`` or a mixture: a bare policy is of the kinds that are not named.

    :raises SettingError: a word is neither.
    """
    everywhere: Policy | None = None
    named: dict[str, Policy] = {}
    for part in _parts(text):
        name, equals, policy = (piece.strip() for piece in part.partition("="))
        if not equals:
            if everywhere is not None:
                raise SettingError(f"{source}: {text!r} names two policies for all kinds. Name one, or name the kinds.")
            everywhere = _policy(name, source, kinds)
        else:
            _check_kind(name, source, kinds)
            named[name] = _policy(policy, source, ())
    if everywhere is None and not named:
        raise SettingError(f"{source}: no policy is given. {_HELP}")
    return everywhere, named


_HELP = f"Valid: {', '.join(POLICIES)}, or KIND=POLICY,… as in hub-busy=warn,leaked-thread=off."


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _policy(text: str, source: str, kinds: Iterable[str]) -> Policy:
    for policy in POLICIES:
        if text == policy:
            return policy
    hint = f" Did you mean {text}=fail?" if text in kinds else did_you_mean(text, POLICIES)
    raise SettingError(f"{source}: {text!r} is not a policy. {_HELP}{hint}")


def _check_kind(name: str, source: str, kinds: Iterable[str]) -> None:
    names = list(kinds)
    if name not in names:
        raise SettingError(
            f"{source}: {name!r} is not a kind of finding.{did_you_mean(name, names)} Valid kinds: {', '.join(names)}."
        )


def parse_limits(text: str, source: str, kinds: Mapping[str, Kind]) -> dict[str, float]:
    """Read ``kind=value,…``.

    :raises SettingError: a kind is unknown or has no threshold, or a value is not one.
    """
    limits: dict[str, float] = {}
    limited = [name for name, kind in kinds.items() if kind.limit is not None]
    for part in _parts(text):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise SettingError(f"{source}: {part!r} is not valid. Valid: KIND=VALUE,… as in hub-busy=200ms.")
        _check_kind(name, source, kinds)
        if name not in limited:
            raise SettingError(f"{source}: {name} has no threshold. Kinds with one: {', '.join(limited)}.")
        limits[name] = _limit(value, kinds[name], source)
    if not limits:
        raise SettingError(f"{source}: no threshold is given. Valid: KIND=VALUE,… as in hub-busy=200ms.")
    return limits


def _limit(text: str, kind: Kind, source: str) -> float:
    readers = {"s": (parse_seconds, SECONDS_HELP), "bytes": (parse_bytes, BYTES_HELP)}
    read, valid = readers.get(kind.unit, (float, f"a number of {kind.unit}"))
    try:
        # A bare number of the command line is a number.
        value = float(read(float(text) if _is_number(text) else text))
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise SettingError(f"{source}: {kind.name}={text!r} is not valid. Valid: above 0, {valid}.")
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def format_limit(value: float, unit: str) -> str:
    """Return a threshold as it is shown."""
    if unit == "s":
        return format_seconds(value)
    return format_bytes(int(value)) if unit == "bytes" else f"{value:g} {unit}"
