from tasks import rate


def test_rate_of_each_currency(celery_pool_worker):
    codes = ["EUR", "USD", "CHF"]
    sent = [rate.delay(code) for code in codes]
    assert [r.get(timeout=10) for r in sent] == [f"{code}=1.25" for code in codes]
