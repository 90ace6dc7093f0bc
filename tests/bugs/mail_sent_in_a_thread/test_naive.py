from tasks import send


def test_send(celery_pool_worker):
    assert send.delay("nobody").get(timeout=10)
