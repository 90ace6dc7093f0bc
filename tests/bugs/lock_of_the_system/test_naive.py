from tasks import order


def test_one_after_the_other(celery_pool_worker):
    results = [order.delay(article) for article in ("pen", "book")]
    assert [result.get(timeout=10) for result in results] == [True, True]
