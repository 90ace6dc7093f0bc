from celery import group
from tasks import grant


def test_grant(celery_pool_worker):
    coupons = [c for _, c in group(grant.s(n) for n in range(4)).delay().get(timeout=10)]
    assert len(set(coupons)) == 4
