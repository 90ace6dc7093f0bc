import sys

from celery import Celery

app = Celery("scripts")


def main(arguments):
    if not arguments:
        sys.exit("usage: report NAME")
    return arguments[0]


@app.task
def report(arguments):
    return main(arguments)
