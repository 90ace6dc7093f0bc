import time

from tasks import book


def test_book(celery_pool_worker):
    first = [book.delay(n, 10 * n) for n in range(4)]
    assert [r.get(timeout=10) for r in first] == list(range(4))
    time.sleep(0.1)
    second = [book.delay(n, 10 * n) for n in range(4, 8)]
    assert [r.get(timeout=10) for r in second] == list(range(4, 8))
