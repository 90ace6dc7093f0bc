"""The beginning of a run with pools: check the settings, say what they are, give the application."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import os
import random
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from pytest_celerypool.errors import WINDOWS, SettingError, known_to_pytest
from pytest_celerypool.keys import APPLICATION, NOTES, POLICIES, SEED_OF_RUN, SETTINGS, SUMMARY, TOLD
from pytest_celerypool.policies import from_config as from_policies
from pytest_celerypool.pools import POOLS
from pytest_celerypool.settings import Settings, from_config
from pytest_celerypool.surface import CLUSTER, WORKER


def configure(config: pytest.Config) -> None:
    """Check the settings, and put into the stash what every run with pools has.

    :raises pytest.UsageError: a setting is wrong, or the system is Windows.
    """
    try:
        settings = from_config(config)
        settings.concurrency.check(settings.pools or POOLS, os.cpu_count() or 1)
        if settings.app is not None:
            from pytest_celerypool.application import put_on_path

            put_on_path(config.rootpath)
            if settings.sources["app"].startswith("--"):  # named for this run, as for ``celery -A``
                _refuse_missing_module(settings, config)
        if settings.baseline is not None and not hasattr(config, "workerinput"):
            from pytest_celerypool.baseline import check

            check(settings.baseline, settings.sources["baseline"])
        policies = from_policies(config, _detectors(config))
    except SettingError as exc:
        raise pytest.UsageError(str(exc)) from None
    if sys.platform == "win32" and settings.chosen():
        raise pytest.UsageError(WINDOWS)
    if settings.stress and not settings.stress_seed:
        told = getattr(config, "workerinput", {}).get(SEED_OF_RUN)
        settings = dataclasses.replace(settings, stress_seed=told or f"{random.SystemRandom().randrange(10**6)}")
    config.stash[SETTINGS] = settings
    config.stash[POLICIES] = policies
    config.stash[NOTES] = list(settings.concurrency.warnings())
    if not hasattr(config, "workerinput"):
        from pytest_celerypool.report.summary import Summary

        config.stash[SUMMARY] = Summary([pool.name for pool in settings.pools or POOLS])


def _detectors(config: pytest.Config) -> list[str]:
    """Return the detectors of other plugins."""
    return [path for paths in config.hook.pytest_celerypool_detectors(config=config) for path in paths]


def check_application(session: pytest.Session) -> None:
    """Refuse an application whose module does not exist before a thousand tests do.

    One of the ini file: not before all tests are collected, since until then any conftest file may extend the path.
    And only where a test needs the application.

    :raises pytest.UsageError: there is no such module.
    """
    config = session.config
    # In a node of xdist pytest would call it an internal error; there each test says it. Broken modules come first.
    if hasattr(config, "workerinput") or config.option.collectonly or session.testsfailed:
        return
    needing = {WORKER, CLUSTER, "celery_pool_app"}
    if any(needing.intersection(getattr(item, "fixturenames", ())) for item in session.items):
        _refuse_missing_module(config.stash[SETTINGS], config)


def _refuse_missing_module(settings: Settings, config: pytest.Config) -> None:
    text = _no_module(settings, config)
    if text:
        raise pytest.UsageError(text)


def _no_module(settings: Settings, config: pytest.Config) -> str:
    """Say that the module of ``--celery-app`` does not exist; empty if it does, and without the option."""
    package = (settings.app or "").partition(":")[0].partition(".")[0]
    if not package or package in sys.modules or importlib.util.find_spec(package) is not None:
        return ""
    return (
        f"{settings.sources['app']}: there is no module {package!r} on the path (asked for {settings.app!r}). "
        f"The root of the project is {config.rootpath}; give MODULE:ATTR as for celery -A, seen from there."
    )


def header(config: pytest.Config) -> list[str]:
    """Return the lines for pytest's header; none if nobody chose anything."""
    settings = config.stash[SETTINGS]
    if not settings.chosen():
        return []
    chosen = settings.pools or (POOLS[0],)
    names = ", ".join(pool.name for pool in chosen) + ("" if settings.pools else ", or as markers say")
    versions = [f"celery {_version('celery')}", f"kombu {_version('kombu')}"]
    versions += [f"{pool.library} {_version(pool.library)}" for pool in chosen if pool.library]
    app = settings.app or "fixture celery_pool_app"
    wins = "; wins over the fixture celery_pool_app" if settings.app else ""
    return [
        f"celery pools: {names} ({settings.sources['pools']}), concurrency {settings.concurrency} "
        f"({settings.sources['concurrency']}), {', '.join(versions)}",
        f"celery app: {app} ({settings.sources['app']}{wins}), launch: {settings.launch} "
        f"({settings.sources['launch']}), "
        f"broker: {_url(settings.broker)} ({settings.sources['broker']}), "
        f"backend: {_url(settings.backend)} ({settings.sources['backend']}), "
        f"timeout: {settings.timeout:g} s ({settings.sources['timeout']})",
        *([f"celery {config.stash[POLICIES].text}"] if config.stash[POLICIES].text else []),
        *(
            [f"celery stress: {settings.stress}:{settings.stress_seed} ({settings.sources['stress']})"]
            if settings.stress
            else []
        ),
        *_header_of_budgets(settings, config),
        *([f"celery advice: at the end of the run ({settings.sources['advise']})"] if settings.advise else []),
    ]


def _header_of_budgets(settings: Settings, config: pytest.Config) -> list[str]:
    """Return what the header says of how budgets are judged, if anybody said anything."""
    said = []
    if settings.budget_confirm:
        repetitions = f"broken ones confirmed by up to {settings.budget_confirm} repetitions"
        said.append(f"{repetitions} ({settings.sources['budget_confirm']})")
    if settings.baseline is not None:
        said.append(f"baseline {os.path.relpath(settings.baseline, config.rootpath)} ({settings.sources['baseline']})")
    if settings.budget_ratchet:
        ratchets = ",".join(map(str, settings.budget_ratchet))
        said.append(f"ratchet {ratchets} ({settings.sources['budget_ratchet']})")
    return [f"celery budgets: {', '.join(said)}"] if said else []


def header_of_contribs(items: Sequence[pytest.Item]) -> list[str]:
    """Return what the header's launch and broker are not true of: the tests of ``celery.contrib.pytest``."""
    from pytest_celerypool.contrib import pool_of

    count = sum(pool_of(item) is not None for item in items)
    if not count:
        return []
    return [
        f"celery contrib: {count} test{'s' if count > 1 else ''} with the fixtures of celery.contrib.pytest, "
        "launch: inprocess, on the suite's own application, broker and backend"
    ]


def header_of_application(config: pytest.Config) -> list[str]:
    """Return what to say of the application of ``--celery-app``, if the tests have imported it already.

    It is not imported for this: an application may read at its import what a session fixture has still to set.
    """
    from pytest_celerypool.agent import loading
    from pytest_celerypool.application import eager_note

    settings = config.stash[SETTINGS]
    source = None if settings.app is None else loading.parse(settings.app)
    if source is None or source["call"] or source["module"] not in sys.modules:
        return []
    if hasattr(config, "workerinput"):  # pytest asks in a node of xdist too, which shows it to nobody
        return []
    try:
        note = eager_note(loading.load(source))
    except Exception:  # noqa: BLE001 - the user's configuration may raise anything; the first test reports it
        return []
    if note is None:
        return []
    config.stash[TOLD] = note
    return [f"celery {note}"]


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _url(text: str) -> str:
    from pytest_celerypool.settings import hide_password

    return hide_password(text)


def give_application(fixturedef: Any, request: Any) -> Any:
    """Set the fixture ``celery_pool_app`` to the application of ``--celery-app``, whoever overrides it.

    :returns: the application, ``None`` if the option was not given.
    """
    settings = request.config.stash[SETTINGS]
    if settings.app is None:
        return None
    with known_to_pytest(fixturedef, request):
        app = _load(settings, request.config)
    fixturedef.cached_result = (app, fixturedef.cache_key(request), None)
    return app


def _load(settings: Settings, config: pytest.Config) -> Any:
    from pytest_celerypool.agent import loading

    assert settings.app is not None
    loaded = config.stash.get(APPLICATION, None)
    if loaded is None:
        text = _no_module(settings, config)
        if text:
            raise pytest.fail.Exception(text, pytrace=False)
        try:
            loaded = loading.load(loading.parse(settings.app))
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - the user's module may raise anything
            message = f"{settings.sources['app']}={settings.app}: {_own_traceback(exc)}"
            raise pytest.fail.Exception(message, pytrace=False) from None
        config.stash[APPLICATION] = loaded
    return loaded


def _own_traceback(exc: BaseException) -> str:
    """Return the traceback of an import from the user's first frame on."""
    import traceback

    frames = exc.__traceback__
    own = (os.path.dirname(__file__), os.path.dirname(importlib.__file__), "<frozen")
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(own):
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(exc), exc, frames)).rstrip()
    return f"the application could not be imported:\n{text}"
