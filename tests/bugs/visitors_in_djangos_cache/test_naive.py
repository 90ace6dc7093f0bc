import uuid

from celery import group

from tasks import may_enter, open_for


def test_visitor_is_let_in(celery_pool_worker):
    visitor = str(uuid.uuid4())
    open_for.delay("north", visitor).get(timeout=20)
    assert group(may_enter.s("north", visitor) for _ in range(4))().get(timeout=20) == [True] * 4
