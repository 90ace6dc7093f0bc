from tasks import place_order, print_slip


def test_the_order_is_printed(celery_pool_worker):
    slip = print_slip.delay()
    place_order.delay("two books")
    assert slip.get(timeout=2.5) == "two books"
