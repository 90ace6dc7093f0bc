from tasks import audit


def test_audit(celery_pool_worker):
    assert audit.delay(["a", "b"]).get(timeout=10) == 2
