import ctypes
import sys

from celery import Celery

app = Celery("weather")

libc = ctypes.CDLL(None)


def in_a_thread(function, *args):
    """Call what does not yield where it stops nobody."""
    if "eventlet" in sys.modules and sys.modules["eventlet"].patcher.is_monkey_patched("thread"):
        from eventlet import tpool

        return tpool.execute(function, *args)
    if "gevent" in sys.modules and sys.modules["gevent"].monkey.is_module_patched("threading"):
        import gevent

        return gevent.get_hub().threadpool.apply(function, args)
    return function(*args)


@app.task
def forecast(microseconds):
    in_a_thread(libc.usleep, microseconds)
    return microseconds
