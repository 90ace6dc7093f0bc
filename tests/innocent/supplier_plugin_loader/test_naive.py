from celery import group
from tasks import supplier_price


def test_suppliers(celery_pool_worker):
    results = group(supplier_price.s(f"s{i}", i) for i in range(5)).delay().get(timeout=10)
    assert results == [[f"s{i}", i * 10] for i in range(5)]
