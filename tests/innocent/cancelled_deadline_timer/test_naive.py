# Resembles: a timer (two minutes) or its thread leaked by every task. None: Timer.cancel in __exit__ wakes the thread, which ends by itself at once; it is a daemon and need not be joined.
from celery import group

from tasks import convert


def test_overlapping_documents(celery_pool_worker):
    documents = [[f" page {d}.{p} " for p in range(4)] for d in range(8)]
    answers = group(convert.s(pages) for pages in documents)().get(timeout=20)
    assert answers == [[f"PAGE {d}.{p}" for p in range(4)] for d in range(8)]


def test_one_document_after_the_other(celery_pool_worker):
    for n in range(8):
        assert convert.delay([f"a{n}", "b"]).get(timeout=20) == [f"A{n}", "B"]
