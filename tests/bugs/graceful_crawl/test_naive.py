from tasks import crawl


def test_crawl(celery_pool_worker):
    assert crawl.delay(3).get(timeout=10) == [0, 1, 2]
