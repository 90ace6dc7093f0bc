from tasks import fetch


def test_pages(celery_pool_worker):
    assert fetch.delay(8).get(timeout=10)
