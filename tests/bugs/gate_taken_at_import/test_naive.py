from celery import group

from tasks import deliver


def test_deliveries(celery_pool_worker):
    assert group(deliver.s(n) for n in (1, 2))().get(timeout=20) == ["1 delivered", "2 delivered"]
