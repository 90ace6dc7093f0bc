import sqlalchemy
from celery import Celery
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, scoped_session, sessionmaker

engine = sqlalchemy.create_engine(
    "sqlite://", poolclass=sqlalchemy.pool.StaticPool, connect_args={"check_same_thread": False}
)
Session = scoped_session(sessionmaker(engine))


class Base(DeclarativeBase):
    pass


class Booking(Base):
    __tablename__ = "bookings"
    id: Mapped[int] = mapped_column(primary_key=True)
    guest: Mapped[str] = mapped_column(unique=True)


Base.metadata.create_all(engine)

app = Celery("bookings")


class InSession(app.Task):
    def after_return(self, *args, **kwargs):
        Session.remove()


@app.task(base=InSession)
def book(guest):
    Session.add(Booking(guest=guest))
    try:
        Session.flush()
    except sqlalchemy.exc.IntegrityError:
        return "has a bed"
    Session.commit()
    return "booked"


@app.task(base=InSession)
def count():
    return Session.query(Booking).count()
