from tasks import crawl


def test_crawl(celery_pool_worker):
    for url in ("abc", "abc"):
        assert crawl.delay(url).get(timeout=10) == 3
