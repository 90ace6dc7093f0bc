from tasks import import_products


def test_import(celery_pool_worker):
    for supplier in range(10):
        assert import_products.delay(f"s{supplier}", 3).get(timeout=10) == 3
