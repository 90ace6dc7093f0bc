import threading
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from celery import Celery
from celery.signals import worker_process_shutdown

app = Celery("follow_topic")

stopped = threading.Event()
seen = {}
guard = threading.Lock()


@lru_cache(maxsize=1)
def followers():
    return ThreadPoolExecutor(4, thread_name_prefix="follow")


@worker_process_shutdown.connect
def stop_following(**_):
    stopped.set()


def pump(topic):
    while not stopped.wait(0.1):
        seen[topic] = seen.get(topic, 0) + 1


@app.task
def follow(topic):
    with guard:
        if topic not in seen:
            seen[topic] = 0
            followers().submit(pump, topic)
    return topic
