from tasks import count


def test_count(celery_pool_worker):
    results = [count.delay(table) for table in ("a", "b", "c")]
    assert [each.get(timeout=10) for each in results] == [3, 3, 3]
