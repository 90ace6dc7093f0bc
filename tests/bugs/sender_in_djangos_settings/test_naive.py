from celery import group

from tasks import order_mail


def test_senders(celery_pool_worker):
    shops = ("books", "shoes", "tea")
    mails = group(order_mail.s(s, 17, "ada@example.org") for s in shops)().get(timeout=20)
    assert [sender for sender, _ in mails] == [f"{s}@example.org" for s in shops]
