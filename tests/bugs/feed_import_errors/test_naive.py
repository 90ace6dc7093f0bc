from tasks import import_feed


def test_good_feed(celery_pool_worker):
    assert import_feed.delay("1.5\n2.5\n").get(timeout=10) == 4.0


def test_bad_feeds_are_skipped(celery_pool_worker):
    for _ in range(12):
        assert import_feed.delay("1.5\nn/a\n").get(timeout=10) is None
