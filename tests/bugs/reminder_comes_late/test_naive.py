from tasks import archive, remind


def test_remind(celery_pool_worker):
    archived = archive.delay(2)
    assert remind.apply_async(("ann",), countdown=0.4).get(timeout=10) == "ann"
    archived.get(timeout=10)
