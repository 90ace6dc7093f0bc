from tasks import import_rows


def test_import(celery_pool_worker):
    import_rows.delay(3)
