from tasks import send


def test_send(celery_pool_worker):
    assert send.delay(2_000_000).get(timeout=10) == 2_000_000
