from tasks import find


def test_find(celery_pool_worker):
    for word in ("a", "b", "c", "d", "e"):
        assert find.delay(word).get(timeout=10) == word.upper()
