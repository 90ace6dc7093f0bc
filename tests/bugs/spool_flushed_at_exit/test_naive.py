from tasks import note


def test_note(celery_pool_worker):
    assert [note.delay(n).get(timeout=10) for n in range(4)] == list(range(4))
