from tasks import call


def test_call(celery_pool_worker):
    results = [call.delay(number) for number in range(24)]
    assert [each.get(timeout=10) for each in results] == list(range(24))
