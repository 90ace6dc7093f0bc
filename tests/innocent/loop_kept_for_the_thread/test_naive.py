from tasks import crawl, fetch


def test_crawl(celery_pool_worker):
    results = [task.delay(f"https://{n}") for n in range(3) for task in (crawl, fetch)]
    assert [each.get(timeout=10) for each in results] == [f"https://{n}" for n in range(3) for _ in range(2)]
