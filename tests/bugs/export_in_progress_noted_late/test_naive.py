from tasks import export


def test_export(celery_pool_worker):
    results = [export.delay(7) for _ in range(2)]
    assert any(each.get(timeout=10) for each in results)
