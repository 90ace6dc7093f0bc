"""A Celery application with two kinds of tasks, those that wait and those that compute, on a queue for each kind."""

import urllib.request

from celery import Celery

app = Celery("mixed", broker="redis://localhost:6379/0", backend="redis://localhost:6379/0")
app.conf.task_routes = {
    "mixed.fetch": {"queue": "io"},
    "mixed.count_primes": {"queue": "cpu"},
}
# A worker takes from a queue what it has slots for, and leaves the rest to others.
app.conf.worker_prefetch_multiplier = 1


@app.task
def fetch(url):
    """Ask a site for a number; nearly all of the time goes by waiting for the answer."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return int(answer.read())


@app.task
def count_primes(below):
    """Count the primes below a number; all of the time is processor time."""
    return sum(all(number % divisor for divisor in range(2, int(number**0.5) + 1)) for number in range(2, below))
