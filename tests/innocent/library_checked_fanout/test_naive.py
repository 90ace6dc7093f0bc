# Resembles: gevent functions used under eventlet (and the other way round), greenlets left behind. None: which library has patched the process decides, without one it is a plain loop; all greenlets are joined.
from celery import group

from tasks import nearest


def test_nearest(celery_pool_worker):
    jobs = [["mirror" + "x" * (7 - n), f"m{n}", "central-mirror"] for n in range(6)]
    answers = group(nearest.s(job) for job in jobs)().get(timeout=20)
    assert answers == [f"m{n}" for n in range(6)]
