from tasks import rate


def test_rates(celery_pool_worker):
    codes = ["EUR", "USD", "CHF", "GBP"]
    sent = [rate.delay(code) for code in codes]
    assert [each.get(timeout=10) for each in sent] == [f"{code}=1.25" for code in codes]
