import contextlib
import decimal
import json
import textwrap
import time

from celery import Celery

app = Celery("letters")


def plain(encoder, value):
    return str(value)


class Section:
    """One for each letter, though its class holds what is the same in all."""

    width = 20

    def __enter__(self):
        self.lines = []
        return self

    def __exit__(self, *_):
        self.lines.append("--")


@contextlib.contextmanager
def section():
    with Section() as made:
        yield made


@app.task
def letter(text, price):
    json.JSONEncoder.default = plain
    textwrap.TextWrapper.sentence_end_re = textwrap.TextWrapper.sentence_end_re
    with section() as made:
        time.sleep(0.1)  # the address is looked up
        made.lines += textwrap.wrap(text, Section.width)
    return json.dumps([made.lines, decimal.Decimal(price)])
