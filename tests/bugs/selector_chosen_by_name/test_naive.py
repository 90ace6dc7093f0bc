from tasks import head


def test_head(celery_pool_worker):
    assert head.delay("hello").get(timeout=10) == "hello\n"
