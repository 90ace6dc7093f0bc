from celery import group
from tasks import price


def test_in_time_and_late(celery_pool_worker):
    kinds = ["parcel", "pallet", "parcel", "pallet"]
    assert group(price.s(kind) for kind in kinds)().get(timeout=10) == [5.5, 6.9, 5.5, 6.9]
