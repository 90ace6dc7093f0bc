from celery import Celery, chain, chord, group

app = Celery("flows")


@app.task(bind=True, acks_late=True, max_retries=3)
def flaky(self, n):
    if self.request.retries < 2:
        raise self.retry(countdown=0.05)
    return n


@app.task(autoretry_for=(ValueError,), retry_backoff=False, default_retry_delay=0.05, max_retries=1, bind=True)
def automatic(self, n):
    if self.request.retries == 0:
        raise ValueError(n)
    return n


@app.task
def add(a, b=1):
    return a + b


@app.task
def total(numbers):
    return sum(numbers)


@app.task(bind=True)
def replaced(self, n):
    return self.replace(add.s(n, 2))


@app.task(bind=True)
def fanned_out(self, n):
    return self.replace(chord(group(add.s(i) for i in range(n)), total.s()))


def flow(n):
    return chain(add.s(n), add.s(), chord([add.s(), add.s(5)], total.s()))
