from tasks import close_day, record, todays_orders


def test_new_day_has_its_own_file(celery_pool_worker):
    close_day.delay().get(timeout=10)
    for result in [record.delay(n) for n in range(8)]:
        result.get(timeout=10)
    assert sorted(todays_orders.delay().get(timeout=10)) == [f"order {n}" for n in range(8)]
