from tasks import handle


def test_handle(celery_pool_worker):
    assert handle.delay(1, request="abc").get(timeout=10) == "abc"
    handle.delay(2).get(timeout=10)
