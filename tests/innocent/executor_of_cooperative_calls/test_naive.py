from tasks import crawl


def test_crawl(celery_pool_worker):
    results = [crawl.delay(3) for _ in range(2)]
    assert [result.get(timeout=10) for result in results] == [["page"] * 3] * 2
