# Resembles tasks that look in a cache of the process for what another child has: whoever finds nothing makes it again.
from celery import group

from tasks import forget, name_of, price_of


def test_names(celery_pool_worker):
    for _ in range(3):
        names = group(name_of.s(number % 3) for number in range(6))().get(timeout=20)
        assert names == [f"article {number % 3}" for number in range(6)]
    assert group(forget.s(number) for number in range(3))().get(timeout=20) == [0, 1, 2]
    assert name_of.delay(1).get(timeout=20) == "article 1"


def test_prices(celery_pool_worker):
    for _ in range(3):
        assert group(price_of.s(4) for _ in range(4))().get(timeout=20) == [28] * 4
