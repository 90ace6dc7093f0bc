from tasks import transfer


def test_transfer(celery_pool_worker):
    bad = [transfer.delay(-1), transfer.delay(-2)]
    assert [str(result.get(timeout=10, propagate=False)) for result in bad] == ["-1", "-2"]
    good = [transfer.delay(amount) for amount in range(6)]
    assert all(result.get(timeout=10) for result in good)
