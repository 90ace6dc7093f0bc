from tasks import count


def test_count(celery_pool_worker):
    for word in ("a", "bb", "ccc", "dddd", "eeeee"):
        assert count.delay(word).get(timeout=10) == len(word)
