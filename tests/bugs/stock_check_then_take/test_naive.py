from celery import group

from tasks import reserve


def test_stock_goes_down(celery_pool_worker):
    left = group(reserve.s("lamp", 2) for _ in range(4)).apply_async().get(timeout=10)
    assert sorted(left) == [2, 4, 6, 8]
