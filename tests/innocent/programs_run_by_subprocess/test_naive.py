from tasks import duration, version


def test_programs(celery_pool_worker):
    results = [duration.delay(0.3), version.delay(), duration.delay(0.2)]
    assert [result.get(timeout=10) for result in results] == [0.3, "3\n", 0.2]
