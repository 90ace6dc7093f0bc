from tasks import export


def test_export(celery_pool_worker):
    assert export.delay(2).get(timeout=10) == "complete"
    running = export.delay(40)
    running.abort()
    assert running.get(timeout=10) == "aborted"
