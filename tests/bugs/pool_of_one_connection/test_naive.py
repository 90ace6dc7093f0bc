from tasks import ask


def test_devices(celery_pool_worker):
    results = [ask.delay(device) for device in ("lamp", "door", "oven")]
    assert [each.get(timeout=10) for each in results] == ["offline"] * 3
