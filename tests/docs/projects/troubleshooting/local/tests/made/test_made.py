def test_application_of_a_fixture(celery_pool_worker):
    pass
