import contextlib

from celery import Celery

from models import Model

app = Celery("translator")
models = {language: Model(language) for language in ("de", "en")}


@app.task
def translate(source, target, text):
    with contextlib.ExitStack() as stack:
        use = {language: stack.enter_context(models[language]) for language in sorted({source, target})}
        return use[target](use[source](text))
