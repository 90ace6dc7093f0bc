from tasks import ask


def test_prices(celery_pool_worker):
    results = [ask.delay(article) for article in ("pen", "book")]
    assert [result.get(timeout=10) for result in results] == [3, 4]
