from tasks import score


def test_score(celery_pool_worker):
    assert score.delay("a").get(timeout=15) == 1
