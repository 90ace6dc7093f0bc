from tasks import take


def test_two_articles(celery_pool_worker):
    results = [take.delay(article) for article in ("book", "pen")]
    assert [result.get(timeout=2.5) for result in results] == ["book", "pen"]
