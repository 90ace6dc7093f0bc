def test_no_application(celery_pool_worker):
    pass
