from tasks import crawl


def test_crawl(celery_pool_worker):
    assert crawl.delay(4).get(timeout=10) == 4
