from celery import group
from tasks import count_orders


def test_tenants(celery_pool_worker):
    names = ["north", "south", "east", "west"]
    results = group(count_orders.s(n) for n in names).delay().get(timeout=10)
    assert results == [[f"{n}.orders", "audit.log", f"{n}.items"] for n in names]
