from tasks import get


def test_get(celery_pool_worker):
    assert get.delay("a").get(timeout=30) == "A"
