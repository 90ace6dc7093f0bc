from tasks import letter


def test_letters(celery_pool_worker):
    results = [letter.delay(*each) for each in (("de", 0.2), ("fr", 0.1), ("it", 0.15))]
    for result in results:
        result.get(timeout=10)
