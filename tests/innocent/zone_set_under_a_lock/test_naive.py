from tasks import midnight


def test_hours(celery_pool_worker):
    hours = {"UTC": 12, "XST-3": 15, "YST5": 7}
    results = {name: midnight.delay(name, 12 * 3600) for name in hours}
    assert {name: r.get(timeout=10) for name, r in results.items()} == hours
