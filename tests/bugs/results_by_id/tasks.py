from celery import Celery

app = Celery("render")


class Renderer:
    def __init__(self):
        self.pages = {}

    def render(self, key, pages):
        self.pages[key] = [b"%d" % page * (1 << 19) for page in range(pages)]
        return len(self.pages[key])


renderer = Renderer()


@app.task(bind=True)
def render(self, pages):
    return renderer.render(self.request.id, pages)
