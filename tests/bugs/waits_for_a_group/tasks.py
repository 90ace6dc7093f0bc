from celery import Celery, group

app = Celery("sums")


@app.task
def square(n):
    return n * n


def squares(numbers):
    return group(square.s(n) for n in numbers).apply_async().join(timeout=5)


@app.task
def total(numbers):
    return sum(squares(numbers))
