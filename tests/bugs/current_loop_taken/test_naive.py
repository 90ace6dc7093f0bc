from tasks import crawl


def test_crawl(celery_pool_worker):
    assert crawl.delay("https://a").get(timeout=10) == "https://a"
