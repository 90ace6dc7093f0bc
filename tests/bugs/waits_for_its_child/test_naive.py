from tasks import publish


def test_publish(celery_pool_worker):
    assert publish.delay("cat").get(timeout=10) == "cat.small"
