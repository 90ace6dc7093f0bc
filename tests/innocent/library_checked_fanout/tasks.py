"""Ask several mirrors side by side, with the green library that is in charge, if any."""
import sys
import time

from celery import Celery

app = Celery("mirrors")


def green_library():
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("time"):
        return "gevent"
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("time"):
        return "eventlet"
    return None                             # prefork, solo, threads


def side_by_side(function, items):
    library = green_library()
    if library == "gevent":
        import gevent

        jobs = [gevent.spawn(function, item) for item in items]
        gevent.joinall(jobs, timeout=10, raise_error=True)
        return [job.value for job in jobs]
    if library == "eventlet":
        import eventlet

        jobs = [eventlet.spawn(function, item) for item in items]
        return [job.wait() for job in jobs]
    return [function(item) for item in items]


def delay_of(mirror):
    time.sleep(0.01)
    return len(mirror)


@app.task
def nearest(mirrors):
    delays = side_by_side(delay_of, mirrors)
    return min(zip(delays, mirrors))[1]
