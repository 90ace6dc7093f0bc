from tasks import classify


def test_classify(celery_pool_worker):
    results = [classify.delay(name) for name in ("cat", "dog")]
    assert [result.get(timeout=10) for result in results] == ["CAT", "DOG"]
