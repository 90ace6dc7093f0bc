from tasks import digest


def test_digest(celery_pool_worker):
    assert digest.delay(0.4).get(timeout=10)
