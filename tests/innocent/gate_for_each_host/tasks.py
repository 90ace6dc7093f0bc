import threading
import time
import weakref

from celery import Celery

app = Celery("tasks")


class Parser:
    """One task at a time may use it."""

    def __init__(self):
        self.lock = threading.Lock()
        self.words = []

    def parse(self, chunks):
        self.words.clear()
        for chunk in chunks:
            time.sleep(0.03)  # the next chunk arrives
            self.words.extend(chunk.split())
        return list(self.words)


PARSERS = weakref.WeakValueDictionary()
GUARD = threading.Lock()


def parser_of(host):
    with GUARD:
        parser = PARSERS.get(host)
        if parser is None:
            parser = PARSERS[host] = Parser()
        return parser


@app.task
def words(host, chunks):
    parser = parser_of(host)
    with parser.lock:
        return parser.parse(chunks)
