from tasks import report


def test_one_after_the_other(celery_pool_worker):
    for size in range(1, 7):
        assert report.delay(size).get(timeout=10) == sum(part * part for part in range(size))


def test_at_once(celery_pool_worker):
    results = [report.delay(3) for _ in range(3)]
    assert [each.get(timeout=10) for each in results] == [5, 5, 5]
