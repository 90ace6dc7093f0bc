from tasks import fetch


def test_a_slow_page(celery_pool_worker):
    assert fetch.delay(1.5).get(timeout=10) == "too slow"
