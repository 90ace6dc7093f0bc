from tasks import welcome


def test_mails(celery_pool_worker):
    results = [welcome.delay(brand, "x") for brand in ("red", "blue", "green")]
    assert all(each.get(timeout=10) for each in results)
