from tasks import voucher


def test_vouchers(celery_pool_worker):
    results = [voucher.delay(number) for number in range(10)]
    assert all(len(result.get(timeout=10)) == 4 for result in results)
