from tasks import send


def test_send(celery_pool_worker):
    results = [send.delay(number) for number in range(4)]
    assert [each.get(timeout=10) for each in results] == [0, 1, 2, 3]
