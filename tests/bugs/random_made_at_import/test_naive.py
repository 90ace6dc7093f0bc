from tasks import voucher


def test_vouchers(celery_pool_worker):
    results = [voucher.delay() for _ in range(12)]
    assert all(len(result.get(timeout=10)) == 8 for result in results)
