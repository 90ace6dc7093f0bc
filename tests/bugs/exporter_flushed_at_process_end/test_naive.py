from tasks import note


def test_note(celery_pool_worker):
    assert note.delay("sold").get(timeout=10) == "sold"
