from tasks import sync


def test_slow_source_is_noticed(celery_pool_worker):
    assert sync.delay("crm", 0.5).get(timeout=10) is True


def test_quick_source(celery_pool_worker):
    assert sync.delay("erp", 0.01).get(timeout=10) is False
