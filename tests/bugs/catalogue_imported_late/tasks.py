from celery import Celery

app = Celery("shop")


@app.task
def quote(article):
    import catalogue  # it takes long, and few tasks need it

    return catalogue.price(article)
