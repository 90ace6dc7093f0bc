from tasks import voucher


def test_voucher(celery_pool_worker):
    results = [voucher.delay(n) for n in range(8)]
    assert all(r.get(timeout=10).startswith("CODE") for r in results)
