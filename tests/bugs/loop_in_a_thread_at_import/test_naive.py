from tasks import crawl


def test_crawl(celery_pool_worker):
    assert crawl.delay("abc").get(timeout=10) == 3
