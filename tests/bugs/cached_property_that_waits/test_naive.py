from tasks import look_up


def test_look_up(celery_pool_worker):
    results = [look_up.delay(article) for article in "abcd"]
    assert [result.get(timeout=10) for result in results] == [[article, 1] for article in "abcd"]
