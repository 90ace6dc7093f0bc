"""Remove what a run left on servers that users brought: what bears its prefix, and nothing else."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

from pytest_celerypool.broker.connecting import connected, errors, one_line
from pytest_celerypool.broker.urls import Place, masked
from pytest_celerypool.errors import BrokerError

REMOVE_SECONDS = 5.0
"""How long the removal of what a run left may take at its end."""

REMAINS = "CELERYPOOL_REMAINS"
"""The environment variable that tells ``python -m pytest_celerypool.broker remove`` what there is to remove."""


class Remains(TypedDict):
    """What a run may have left on servers that users brought.

    Every name begins with ``prefix``; a key of Redis has the application's own prefix, the text beside the
    place, before it. ``logs`` are the files, or folders of files, in which the AMQP transport noted names.
    """

    redis: list[tuple[Place, str]]
    amqp: list[Place]
    prefix: str
    logs: list[str]


def remove(remains: Remains) -> None:
    """Delete what `remains` describes, on all servers at once; raises :exc:`BrokerError` if one fails."""
    names = _names_in(remains["logs"], remains["prefix"])
    jobs: list[tuple[str, Callable[[], None]]] = [
        (place["url"], partial(_remove_keys, place, own_prefix + remains["prefix"]))
        for place, own_prefix in remains["redis"]
    ]
    if names:
        jobs += [(place["url"], partial(_remove_names, place, names)) for place in remains["amqp"]]
    failed = _side_by_side(jobs)
    if failed:
        raise BrokerError(
            "\n".join(f"{masked(url)}: what begins with {remains['prefix']} may remain: {why}" for url, why in failed)
        )


def _side_by_side(jobs: Iterable[tuple[str, Callable[[], None]]]) -> list[tuple[str, str]]:
    """Run each job in a thread, for :data:`REMOVE_SECONDS` at most; returns which failed, and why."""
    outcomes: dict[int, str] = {}

    def run(number: int, job: Callable[[], None]) -> None:
        try:
            job()
        except errors() as error:
            outcomes[number] = one_line(error)
        else:
            outcomes[number] = ""

    deadline = time.monotonic() + REMOVE_SECONDS
    started = []
    for number, (url, job) in enumerate(jobs):
        # Daemons: a server that hangs must not hold up the end of pytest.
        thread = threading.Thread(target=run, args=(number, job), daemon=True)
        thread.start()
        started.append((number, url, thread))
    for _, _, thread in started:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"no answer within {REMOVE_SECONDS:.0f} s"
    return [(url, why) for number, url, _ in started if (why := outcomes.get(number, late))]


def _remove_keys(place: Place, prefix: str) -> None:
    """Delete the keys that begin with `prefix`, and no other."""
    pattern = re.sub(r"([\[\]*?^\\-])", r"\\\1", prefix) + "*"
    with connected(place, REMOVE_SECONDS) as channel:
        batch: list[bytes] = []
        for key in channel.client.scan_iter(match=pattern, count=1000):
            if key.startswith(prefix.encode()):
                batch.append(key)
            if len(batch) >= 500:
                channel.client.unlink(*batch)
                batch.clear()
        if batch:
            channel.client.unlink(*batch)


def _names_in(logs: Sequence[str], prefix: str) -> list[tuple[str, str]]:
    """Return the kinds and names that the files (or the files in the folders) `logs` note, each once."""
    paths: list[Path] = []
    for log in map(Path, logs):
        paths += log.glob("names-*") if log.is_dir() else [log]
    names: dict[tuple[str, str], None] = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # a namespace in which nothing was declared
            for line in path.read_text(encoding="utf-8").splitlines():
                kind, _, name = line.partition(" ")
                # A server-named queue has no prefix; nobody else can have been given its name.
                if name.startswith((prefix, "amq.gen-")):
                    names[kind, name] = None
    return list(names)


def _remove_names(place: Place, names: Sequence[tuple[str, str]]) -> None:
    """Delete queues and exchanges; one that is gone already is no error to RabbitMQ."""
    import amqp

    with connected(place, REMOVE_SECONDS) as channel:
        for kind, name in names:
            try:
                if kind == "queue":
                    channel.queue_delete(name)
                else:
                    channel.exchange_delete(name)
            except amqp.exceptions.ChannelError:
                # An exclusive queue of a connection that still closes; it goes with it. The channel reopened.
                continue


def plain(remains: Remains) -> dict[str, Any]:
    """Return `remains` as JSON can hold it: an option that it cannot hold is left out."""
    return {
        **remains,
        "redis": [[_plain_place(place), own] for place, own in remains["redis"]],
        "amqp": [_plain_place(place) for place in remains["amqp"]],
    }


def _plain_place(place: Place) -> Place:
    options = {key: value for key, value in place["options"].items() if _is_plain(value)}
    return Place(url=place["url"], options=options, ssl=place["ssl"] if _is_plain(place["ssl"]) else True)


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
