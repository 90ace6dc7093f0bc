from tasks import send


def test_each_process_has_its_client(celery_pool_worker):
    results = [send.delay(str(number)) for number in range(6)]
    assert all(each.get(timeout=10) for each in results)
