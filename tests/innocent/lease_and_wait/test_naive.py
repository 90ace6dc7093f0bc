from celery import group
from tasks import publish


def test_publish(celery_pool_worker):
    assert group(publish.s(n) for n in range(4)).delay().get(timeout=10) == [0, 1, 2, 3]
