from celery import Celery

from models import Model

app = Celery("translator")
models = {language: Model(language) for language in ("de", "en")}


@app.task
def translate(source, target, text):
    with models[source] as parse, models[target] as render:
        return render(parse(text))
