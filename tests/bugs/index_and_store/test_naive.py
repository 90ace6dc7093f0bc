from tasks import add, compact


def test_an_addition_beside_a_compaction(celery_pool_worker):
    added, compacted = add.delay("a", "text"), compact.delay()
    added.get(timeout=2)
    assert compacted.get(timeout=2) in (0, 1)
