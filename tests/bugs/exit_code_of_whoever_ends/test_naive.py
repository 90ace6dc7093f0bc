from tasks import convert


def test_exit_code_is_reported(celery_pool_worker):
    quick = convert.delay(0.3, 3, 0.6)
    slow = convert.delay(0.9, 4, 0.1)
    assert [quick.get(timeout=10), slow.get(timeout=10)] == [3, 4]
