from tasks import note


def test_note(celery_pool_worker):
    for number in range(12):
        assert note.delay(f"tenant-{number % 6}", "hello").get(timeout=10) == f"tenant-{number % 6}"
