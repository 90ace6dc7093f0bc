from tasks import expire, rename


def test_audit(celery_pool_worker):
    assert rename.delay("ann", "x").get(timeout=10) == "ann renamed x"
    assert expire.delay("y").get(timeout=10).endswith("expired y")
