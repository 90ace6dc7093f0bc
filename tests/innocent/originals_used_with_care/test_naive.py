from tasks import count


def test_counts(celery_pool_worker):
    names = ["a", "b", "c", "a"]
    assert [result.get(timeout=10) for result in [count.delay(name) for name in names]] == names
