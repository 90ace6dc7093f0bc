from tasks import transfer


def test_transfers_both_ways(celery_pool_worker):
    there = transfer.delay("alice", "bob", 30)
    back = transfer.delay("bob", "alice", 10)
    assert there.get(timeout=3) == 30
    assert back.get(timeout=3) == 10
