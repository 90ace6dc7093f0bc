import threading
import weakref

from celery import Celery

app = Celery("gateway")


class Gateway:
    def __init__(self, thread):
        self.thread = thread
        self.calls = 0

    def send(self, text):
        self.calls += 1
        return f"sent {text}"


class Gateways:
    """The gateway of each thread, forgotten with the thread."""

    def __init__(self):
        self._by_thread = weakref.WeakKeyDictionary()

    def __get__(self, instance, owner):
        thread = threading.current_thread()
        gateway = self._by_thread.get(thread)
        if gateway is None:
            gateway = self._by_thread[thread] = Gateway(thread)
        return gateway


class Texting(app.Task):
    gateway = Gateways()


@app.task(base=Texting, bind=True)
def text(self, message):
    return self.gateway.send(message)
