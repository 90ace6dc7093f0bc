import queue
import threading

from celery import Celery
from celery.signals import worker_shutdown

app = Celery("search")
STOP = object()


class Indexer:
    def __init__(self, size=2):
        self.size, self.index, self.threads = size, {}, []
        self.inbox = queue.Queue()
        self.lock = threading.Lock()

    def add(self, document):
        with self.lock:
            while len(self.threads) < self.size:
                self.threads.append(threading.Thread(target=self.work, daemon=True))
                self.threads[-1].start()
        done = threading.Event()
        self.inbox.put((document, done))
        return done.wait(5)

    def work(self):
        while True:
            try:
                item = self.inbox.get(timeout=0.25)
            except queue.Empty:
                continue
            if item is STOP:
                return
            document, done = item
            self.index[document[:1]] = document
            done.set()

    def close(self):
        if self.threads:
            self.inbox.put(STOP)
        for thread in self.threads:
            thread.join()


indexer = Indexer()
worker_shutdown.connect(lambda **kwargs: indexer.close(), weak=False)


@app.task
def index(document):
    return indexer.add(document)
