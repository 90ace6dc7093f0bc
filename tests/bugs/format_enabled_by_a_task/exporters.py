class Exporter:
    registry = {}
    separator = ","

    def __init_subclass__(cls, suffix, **options):
        super().__init_subclass__(**options)
        Exporter.registry[suffix] = cls

    @classmethod
    def of(cls, suffix):
        return cls.registry.get(suffix, cls)()

    def export(self, row):
        return self.separator.join(row)
