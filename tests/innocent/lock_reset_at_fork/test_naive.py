from celery import group
from tasks import remember


def test_remember(celery_pool_worker):
    results = group(remember.s(f"k{i}", i * i) for i in range(8)).delay().get(timeout=10)
    assert results == [i * i for i in range(8)]
