from celery import group
from tasks import stocktake


def test_stocktake(celery_pool_worker):
    results = group(stocktake.s(i) for i in range(5)).delay().get(timeout=10)
    assert results == [["0o640", str(i)] for i in range(5)]
