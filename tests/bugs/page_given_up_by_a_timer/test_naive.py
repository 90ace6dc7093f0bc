from tasks import crawl


def test_a_slow_site(celery_pool_worker):
    assert crawl.delay(1).get(timeout=10) == "given up"
