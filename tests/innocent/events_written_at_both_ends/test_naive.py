from tasks import event


def test_events(celery_pool_worker):
    results = [event.delay(name) for name in ("login", "buy")]
    assert [each.get(timeout=10) for each in results] == ["login", "buy"]
