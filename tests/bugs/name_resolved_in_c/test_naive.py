from tasks import check_address


def test_address(celery_pool_worker):
    assert check_address.delay("ann@example.com").get(timeout=10)
