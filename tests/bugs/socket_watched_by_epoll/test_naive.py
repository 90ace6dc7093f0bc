from tasks import receive


def test_receive(celery_pool_worker):
    assert receive.delay("hello").get(timeout=10) == "hello"
