from celery import group

from tasks import coupon


def test_codes_differ(celery_pool_worker):
    codes = group(coupon.s("spring") for _ in range(8)).apply_async().get(timeout=10)
    assert len({code.split("-")[0] for code in codes}) == 8
    assert len({code.split("-")[1] for code in codes}) == 8
