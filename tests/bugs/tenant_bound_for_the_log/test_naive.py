from tasks import handle


def test_tenants(celery_pool_worker):
    results = [handle.delay(i, tenant="acme") for i in range(6)]
    assert {r.get(timeout=10) for r in results} == {"acme"}


def test_internal(celery_pool_worker):
    results = [handle.delay(i, tenant=("acme" if i < 3 else None)) for i in range(6)]
    assert [r.get(timeout=10) for r in results] == ["acme"] * 3 + [None] * 3
