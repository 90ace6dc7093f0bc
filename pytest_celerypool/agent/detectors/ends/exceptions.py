"""Compare what a task raised or returned with what its caller gets of it."""

from __future__ import annotations

import pickle
import traceback
from typing import TYPE_CHECKING, Any

from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.promises.limits import definition

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run

#: The states of which nothing is stored, with ``Ignore`` and ``Reject``.
_UNSTORED = ("IGNORED", "REJECTED")

#: What an ``UnpickleableExceptionWrapper`` keeps of an argument is at most this.
_SHOWN = 300


class Exceptions(Detector):
    """Sends the exception of a failed task to and fro, as Celery does, and looks at what arrives.

    Tasks that succeed cost nothing.
    """

    kinds = (
        Kind("not-picklable", "fail", "an exception, a result or arguments that cannot be sent"),
        Kind("exception-changed", "fail", "the caller gets an exception of another class than was raised"),
        Kind("exception-loses-data", "warn", "the caller gets the exception without some of what was in it"),
    )

    def failed(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Look at what a task failed with."""
        if state in _UNSTORED and exc is not None and self.watch.pool.forks:
            self._hand_over(run, exc)
        if state != "FAILURE" or exc is None:
            return
        if type(exc).__name__ == "EncodeError" and type(exc).__module__ == "kombu.exceptions":
            self._not_encoded(run, exc)
            return
        request = run.task.request_stack.top
        ignored = request.ignore_result if request.ignore_result is not None else run.task.ignore_result
        if not ignored or run.task.store_errors_even_if_ignored:
            self._compare(run, exc)

    def _not_encoded(self, run: Run, exc: BaseException) -> None:
        """Arguments that the task published, or its result, could not be serialised."""
        places = self.watch.frames.raised_places(exc)
        what = "arguments that it published" if places else "its result"
        self.watch.report(
            "not-picklable",
            run,
            f"{what} cannot be sent through the broker or the backend, and the task fails with EncodeError although "
            "its own work was done" + ("" if places else ": what it returned is lost"),
            [*(places or [definition(run, self.watch.frames)]), _brief(exc)],
            "Send plain data: numbers, texts, lists and dictionaries, or ids of what is stored elsewhere.",
            key=what,
        )

    def _hand_over(self, run: Run, exc: BaseException) -> None:
        """Look at what a child of prefork hands to the main process as it is: only failures are made fit for that."""
        end = "which gets MaybeEncodingError instead and stores the task as failed"
        try:
            pickled = pickle.dumps(exc)
            end = "which ends by that error as it reads it, with all of its children"
            pickle.loads(pickled)
        except Exception as why:  # noqa: BLE001 - a user's __reduce__ or __init__ may raise anything
            self.watch.report(
                "not-picklable",
                run,
                f"it raised {_name(exc)} with what cannot be pickled ({_brief(why)}): under prefork its child hands it "
                f"to the worker's main process, {end}",
                [*self._places(run, exc), f"raised {_short(exc)}, args {_short(exc.args)}", f"pickle: {_brief(why)}"],
                f"Give {type(exc).__name__} a text, as str(exc), and log the rest.",
                key=_name(exc),
            )

    def _compare(self, run: Run, exc: BaseException) -> None:
        from celery.utils.serialization import get_pickleable_exception

        try:
            pickle.loads(pickle.dumps(exc))
            why = None
        except Exception as error:  # noqa: BLE001 - a user's __reduce__ or __init__ may raise anything
            why = error
        sent = get_pickleable_exception(exc)
        try:
            arrives = self._through_backend(run, sent)
        except Exception as error:  # noqa: BLE001 - as above
            arrives, why = None, why or error
        if why is not None:
            self._report_unpicklable(run, exc, why, arrives)
        elif arrives is not None and _same_class(type(arrives), type(exc)):
            self._compare_data(run, exc, arrives)
        elif arrives is not None:
            self._report_changed(run, exc, arrives)

    @staticmethod
    def _through_backend(run: Run, exc: BaseException) -> Any:
        """Return what the caller gets."""
        backend = run.task.backend
        return backend.exception_to_python(backend.decode(backend.encode(backend.prepare_exception(exc))))

    def _places(self, run: Run, exc: BaseException) -> list[str]:
        return self.watch.frames.raised_places(exc) or [definition(run, self.watch.frames)]

    def _report_unpicklable(self, run: Run, exc: BaseException, why: BaseException, arrives: Any) -> None:
        name = _name(exc)
        gets = "nothing that can be raised" if arrives is None else f"{_name(arrives)} instead"
        self.watch.report(
            "not-picklable",
            run,
            f"it raised {name}, which cannot be pickled and built again ({_brief(why)}): its caller gets {gets}, "
            f"and no except {type(exc).__name__} will catch it",
            [
                *self._places(run, exc),
                f"raised {_short(exc)}, args {_short(exc.args)}",
                f"arrives {_short(arrives)}",
                f"pickle: {_brief(why)}",
            ],
            "Pass all arguments of the class on to super().__init__(), plain data only; or define __reduce__.",
            key=name,
        )

    def _report_changed(self, run: Run, exc: BaseException, arrives: Any) -> None:
        name = _name(exc)
        self.watch.report(
            "exception-changed",
            run,
            f"it raised {name}, and its caller gets {_name(arrives)}: the {run.task.backend.serializer} backend keeps "
            f"module, name and args, and cannot build the class from them again; no except {type(exc).__name__} will "
            "catch it",
            [*self._places(run, exc), f"raised {_short(exc)}, args {_short(exc.args)}", f"arrives {_short(arrives)}"],
            "Give the class an __init__ that takes just its args, and keep it where it can be imported.",
            key=name,
        )

    def _compare_data(self, run: Run, exc: BaseException, arrives: BaseException) -> None:
        lost = _lost(exc, arrives)
        if lost:
            self.watch.report(
                "exception-loses-data",
                run,
                f"it raised {_name(exc)}, and its caller gets one without {', '.join(lost)}: only what is in args, and "
                f"what the {run.task.backend.serializer} serializer knows, is kept",
                [
                    *self._places(run, exc),
                    f"raised {_short(exc)}, args {_short(exc.args)}",
                    f"arrives {_short(arrives)}, args {_short(arrives.args)}",
                ],
                "Put what the caller needs into the exception's args, as plain data.",
                key=_name(exc),
            )


def _same_class(arrived: type, raised: type) -> bool:
    return arrived is raised or (arrived.__module__, arrived.__qualname__) == (raised.__module__, raised.__qualname__)


def _lost(exc: BaseException, arrives: BaseException) -> list[str]:
    """Return what of an exception's data did not arrive: arguments that became text, attributes that are gone."""
    lost = []
    raised, got = exc.args, arrives.args
    if len(raised) != len(got):
        lost.append(f"{len(raised)} args as they were")
    else:
        lost += [
            f"argument {number + 1} (a {type(before).__name__}, now text)"
            for number, (before, after) in enumerate(zip(raised, got, strict=True))
            if isinstance(after, str) and not isinstance(before, str)
        ]
    kept = vars(arrives)
    lost += [
        f"attribute {name}"
        for name, value in vars(exc).items()
        if not name.startswith("__") and kept.get(name) is None and value is not None
    ]
    return lost


def _name(exc: BaseException) -> str:
    return f"{type(exc).__module__}.{type(exc).__qualname__}".removeprefix("builtins.")


def _brief(exc: BaseException) -> str:
    return _cut("".join(traceback.format_exception_only(exc)).strip().splitlines()[-1])


def _short(value: Any) -> str:
    try:
        return _cut(repr(value))
    except Exception as exc:  # noqa: BLE001 - a user's __repr__ may raise anything
        return f"<unprintable {type(value).__name__}: {type(exc).__name__}>"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
