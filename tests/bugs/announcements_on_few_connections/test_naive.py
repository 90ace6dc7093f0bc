from celery import group
from tasks import announce


def test_announce(celery_pool_worker):
    assert announce.delay("").get(timeout=10) == 0
    sent = group(announce.s("x" * n) for n in range(1, 6)).apply_async()
    assert sent.get(timeout=10) == list(range(1, 6))
