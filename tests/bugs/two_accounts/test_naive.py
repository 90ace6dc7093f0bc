from tasks import transfer


def test_transfer(celery_pool_worker):
    there = transfer.delay("ann", "bob", 3)
    back = transfer.delay("bob", "ann", 5)
    assert there.get(timeout=10) == ["ann", -3, "bob", 3]
    assert back.get(timeout=10) == ["bob", -5, "ann", 5]
