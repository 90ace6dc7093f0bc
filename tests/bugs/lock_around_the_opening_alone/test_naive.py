from tasks import imbalance, transfer


def test_refused_transfer_leaves_no_trace(celery_pool_worker):
    refused = transfer.delay("ann", "unknown", 70, 0.5)
    done = transfer.delay("bob", "cy", 20, 0.2)
    assert refused.get(timeout=10) == "refused"
    assert done.get(timeout=10) == "done"
    assert imbalance.delay().get(timeout=10) == 0
