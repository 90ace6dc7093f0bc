import logging
import threading

from celery import Celery

app = Celery("placement")


class Placed(logging.LoggerAdapter):
    """Tells in each record where it comes from, as `top -H` shows it."""

    def process(self, msg, kwargs):
        thread = threading.current_thread()
        return f"[{thread.name}/{thread.native_id}] {msg}", kwargs


log = Placed(logging.getLogger("placement"), {})


@app.task
def place(order, shelf):
    log.warning("order %s goes to %s", order, shelf)
    return f"{shelf}-{order}"
