from tasks import welcome


def test_welcome(celery_pool_worker):
    assert welcome.delay("north").get(timeout=10) == "open"
