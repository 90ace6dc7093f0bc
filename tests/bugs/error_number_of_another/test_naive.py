from tasks import status_of


def test_each_has_its_own(celery_pool_worker):
    results = [status_of.delay(number) for number in (3, 4, 5)]
    assert [result.get(timeout=10) for result in results] == [[3, 3], [4, 4], [5, 5]]
