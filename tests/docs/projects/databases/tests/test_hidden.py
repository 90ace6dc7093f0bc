import pytest
from orders.models import Order
from orders.tasks import pay


@pytest.mark.django_db
def test_pay(celery_pool_worker):
    number = Order.objects.create().pk
    assert celery_pool_worker.run(pay, number) == 1
