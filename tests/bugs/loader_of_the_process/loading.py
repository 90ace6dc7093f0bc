from celery.loaders.app import AppLoader

limits = {}


class ShopLoader(AppLoader):
    def on_worker_process_init(self):
        limits.update(order=500, refund=100)
