import sqlalchemy
from celery import Celery
from sqlalchemy import orm

engine = sqlalchemy.create_engine(
    "sqlite://", poolclass=sqlalchemy.pool.StaticPool, connect_args={"check_same_thread": False}
)
metadata = sqlalchemy.MetaData()
users = sqlalchemy.Table(
    "users", metadata, sqlalchemy.Column("name", sqlalchemy.String, primary_key=True)
)
metadata.create_all(engine)


class User:
    def __init__(self, name):
        self.name = name


orm.registry().map_imperatively(User, users)
database = orm.scoped_session(orm.sessionmaker(engine))

app = Celery("users")


@app.task
def register(name):
    database.add(User(name))
    try:
        database.flush()
    except sqlalchemy.exc.IntegrityError:
        return "taken"
    database.commit()
    return "registered"


@app.task
def count():
    return database.query(User).count()
