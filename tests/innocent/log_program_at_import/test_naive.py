from tasks import note


def test_notes(celery_pool_worker):
    results = [note.delay("x" * number) for number in range(6)]
    assert [each.get(timeout=10) for each in results] == list(range(6))
