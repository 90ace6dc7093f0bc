from tasks import handle


def test_tenants(celery_pool_worker):
    tenants = ["acme", None, "acme", None, "umbrella", None]
    results = [handle.delay(number, tenant=tenant) for number, tenant in enumerate(tenants)]
    assert [each.get(timeout=10) for each in results] == tenants
