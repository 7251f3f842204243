"""Calls in a database: one transaction a call, keys by content, so that nothing is done twice and a killed run can go on."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from analyzer.config import digest
from analyzer.errors import StoreError
from analyzer.records import CallInfo, CallScore, Failure, Transcript, dumps
from analyzer.wire import loads, score_from_json, transcript_from_json

VERSION: Final = 1

_META = sa.MetaData()
_ABOUT = sa.Table("about", _META, sa.Column("key", sa.String(40), primary_key=True), sa.Column("value", sa.Text, nullable=False))
#: The words of one recording under one way of hearing and redacting them.
_TRANSCRIPTS = sa.Table(
    "transcripts",
    _META,
    sa.Column("transcript_key", sa.String(64), primary_key=True),
    sa.Column("content_sha256", sa.String(64), nullable=False, index=True),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("created_at", sa.String(40), nullable=False),
)
#: One row a call. Its table columns change in place; two names of the same audio share one transcript.
_CALLS = sa.Table(
    "calls",
    _META,
    sa.Column("call_id", sa.String(255), primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("content_sha256", sa.String(64), nullable=False),
    sa.Column("transcript_key", sa.String(64), sa.ForeignKey("transcripts.transcript_key"), nullable=False, index=True),
    sa.Column("info", sa.Text, nullable=False),
    sa.Column("updated_at", sa.String(40), nullable=False),
)
_SCORES = sa.Table(
    "scores",
    _META,
    sa.Column("transcript_key", sa.String(64), sa.ForeignKey("transcripts.transcript_key"), primary_key=True),
    sa.Column("model", sa.String(255), primary_key=True),
    #: Digest of what else decides a score: thresholds, cues, the version of the scoring itself.
    sa.Column("rules", sa.String(16), primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
    #: When a run last made or confirmed it; of a transcript's scores the newest is in force.
    sa.Column("in_force_since", sa.String(40), nullable=False),
)
_ANSWERS = sa.Table(
    "answers",
    _META,
    sa.Column("transcript_key", sa.String(64), sa.ForeignKey("transcripts.transcript_key"), primary_key=True),
    sa.Column("scorecard", sa.String(64), primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("created_at", sa.String(40), nullable=False),
)
_FAILURES = sa.Table(
    "failures",
    _META,
    sa.Column("source", sa.String(1024), primary_key=True),
    sa.Column("call_id", sa.String(255)),
    sa.Column("reason", sa.String(40), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("failed_at", sa.String(40), nullable=False),
)
_NOBODY: Final = CallInfo(call_id="-")
_INFO_KEYS: Final = {field.name for field in dataclasses.fields(CallInfo)} - {"covariates"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a call comes from and what its score is made with: `source` (lasting name of its file), the SHA-256 of its content,
    the key of its transcript, and the digest of the rules of scoring."""

    source: str
    content_sha256: str
    transcript_key: str
    rules: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How much a store holds."""

    calls: int
    transcripts: int
    scores: Mapping[str, int]
    failures: int


def transcript_key(content_sha256: str, speech_digest: str, redaction_digest: str) -> str:
    """The key of a transcript: the same bytes, heard and redacted in the same way, are the same transcript."""
    return digest(content_sha256, speech_digest, redaction_digest)


class Store:
    """An open store. Use it as a context manager; each `save_*` is one transaction. `create` makes it where there is none.

    Raises:
        StoreError: the URL makes no sense, there is no store, the database cannot be reached, or a newer version wrote it.
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        try:
            self._engine = sa.create_engine(url)
        except (ArgumentError, NoSuchModuleError):
            raise StoreError("not a store URL", where=_masked(url), do="Write it like sqlite:///analyzer.db.") from None
        except ModuleNotFoundError as error:
            raise StoreError(f"the driver {error.name} is not installed", where=_masked(url), do="pip install 'analyzer[postgres]'.") from None
        self.url = _masked(url)
        if self._engine.dialect.name == "sqlite":
            self._prepare_sqlite(create)
        with self._guard():
            _META.create_all(self._engine)
        self._check_version()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.dispose()

    def _prepare_sqlite(self, create: bool) -> None:
        path = self._engine.url.database
        if path and path != ":memory:":
            if not create and not Path(path).is_file():
                raise StoreError("there is no store", where=self.url, do="Run `analyzer batch FOLDER` first, or name it with --store.")
            if not Path(path).parent.is_dir():
                raise StoreError("the folder does not exist", where=self.url, do=f"Make {Path(path).parent} first.")
            # Transcripts are personal data: nobody else reads the file, nor the journal SQLite puts beside it.
            try:
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            except OSError as error:
                raise StoreError(f"cannot be opened: {error.strerror}", where=self.url, do="Check the path and its permissions.") from None

        @sa.event.listens_for(self._engine, "connect")
        def _pragmas(connection: Any, _: object) -> None:
            for pragma in ("busy_timeout = 30000", "journal_mode = WAL", "foreign_keys = ON", "synchronous = FULL"):
                connection.execute(f"PRAGMA {pragma}")

    def _check_version(self) -> None:
        with self._guard(), self._engine.begin() as db:
            row = db.execute(sa.select(_ABOUT.c.value).where(_ABOUT.c.key == "version")).scalar()
            if row is None:
                self._put(db, _ABOUT, {"key": "version", "value": str(VERSION)})
                row = str(VERSION)
        if int(row) > VERSION:
            raise StoreError(f"written by a newer analyzer (store version {row}, this one knows {VERSION})", where=self.url, do="Update analyzer.")

    def _guard(self) -> _Guard:
        return _Guard(self.url)

    def _put(self, db: sa.Connection, table: sa.Table, row: Mapping[str, Any]) -> None:
        """Insert, or replace the row of the same key: the same on every database."""
        keys = [column.name for column in table.primary_key.columns]
        dialect: Any = __import__(f"sqlalchemy.dialects.{self._engine.dialect.name}", fromlist=["insert"])
        statement = dialect.insert(table).values(**row)
        changes = {name: statement.excluded[name] for name in row if name not in keys}
        db.execute(statement.on_conflict_do_update(index_elements=keys, set_=changes))

    def save(self, score: CallScore, place: Place) -> None:
        """One call's transcript, score and table columns, in one transaction; clears an earlier failure of the same source.

        Raises:
            StoreError: the call id already stands for another recording.
        """
        if score.transcript is None:
            raise StoreError("a score without its transcript cannot be stored", where=score.info.call_id, do="Score the transcript again.")
        # What is known of the call stands in its own row, and without its transcript a score writes no quotes: nothing stands twice.
        body = dataclasses.replace(score, info=_NOBODY, transcript=None).to_json()
        words = dataclasses.replace(score.transcript, info=_NOBODY).to_json()
        key = place.transcript_key
        with self._guard(), self._engine.begin() as db:
            self._put(
                db,
                _TRANSCRIPTS,
                {"transcript_key": key, "content_sha256": place.content_sha256, "body": dumps(words), "created_at": _now()},
            )
            self._put_call(db, score.info, place)
            row = {"transcript_key": key, "model": score.model, "rules": place.rules, "body": dumps(body), "in_force_since": _now()}
            self._put(db, _SCORES, row)

    def confirm(self, info: CallInfo, place: Place, model: str) -> bool:
        """Whether this model has scored these words under these rules already: then that score is in force, the call's columns are
        brought up to date, and an earlier failure is cleared."""
        scored = sa.and_(_SCORES.c.transcript_key == place.transcript_key, _SCORES.c.model == model, _SCORES.c.rules == place.rules)
        with self._guard(), self._engine.begin() as db:
            if db.execute(sa.update(_SCORES).where(scored).values(in_force_since=_now())).rowcount == 0:
                return False
            self._put_call(db, info, place)
        return True

    def save_answers(self, key: str, scorecard: str, answers: object) -> None:
        """A scorecard's answers about one transcript; `scorecard` is its digest."""
        with self._guard(), self._engine.begin() as db:
            self._put(db, _ANSWERS, {"transcript_key": key, "scorecard": scorecard, "body": dumps(answers), "created_at": _now()})

    def save_failure(self, failure: Failure) -> None:
        """A call that could not be scored, by its source; a later success clears it."""
        row = {"source": failure.source, "call_id": failure.call_id, "reason": failure.reason, "message": failure.message, "failed_at": _now()}
        with self._guard(), self._engine.begin() as db:
            self._put(db, _FAILURES, row)

    def _put_call(self, db: sa.Connection, info: CallInfo, place: Place) -> None:
        known = db.execute(sa.select(_CALLS.c.source, _CALLS.c.content_sha256).where(_CALLS.c.call_id == info.call_id)).one_or_none()
        if known is not None and known.source != place.source and known.content_sha256 != place.content_sha256:
            what = f"the call id {info.call_id!r} already stands for {known.source}"
            raise StoreError(what, where=place.source, do="Give each recording an id of its own, in the calls table or by its file name.")
        row = {"source": place.source, "content_sha256": place.content_sha256, "transcript_key": place.transcript_key}
        self._put(db, _CALLS, {"call_id": info.call_id, **row, "info": dumps(_info_json(info)), "updated_at": _now()})
        db.execute(sa.delete(_FAILURES).where(_FAILURES.c.source == place.source))

    def transcript(self, key: str, info: CallInfo) -> Transcript | None:
        """The stored words under this key, as the transcript of the call `info`."""
        with self._guard(), self._engine.connect() as db:
            body = db.execute(sa.select(_TRANSCRIPTS.c.body).where(_TRANSCRIPTS.c.transcript_key == key)).scalar()
        return None if body is None else _transcript(body, info)

    def score(self, call_id: str, model: str | None = None) -> CallScore | None:
        """One call's score, by `model` or the newest."""
        return next(self.scores(model=model, call_id=call_id), None)

    def scores(self, *, model: str | None = None, call_id: str | None = None) -> Iterator[CallScore]:
        """Every scored call with its transcript, in order of call id: each call's newest score, of the model stamp given or of any."""
        dated = sa.select(_SCORES.c.transcript_key, sa.func.max(_SCORES.c.in_force_since).label("at")).group_by(_SCORES.c.transcript_key)
        newest = (dated if model is None else dated.where(_SCORES.c.model == model)).subquery()
        query = (
            sa.select(_CALLS.c.info, _TRANSCRIPTS.c.body.label("words"), _SCORES.c.body)
            .join(_TRANSCRIPTS, _TRANSCRIPTS.c.transcript_key == _CALLS.c.transcript_key)
            .join(_SCORES, _SCORES.c.transcript_key == _CALLS.c.transcript_key)
            .order_by(_CALLS.c.call_id)
        )
        query = query.join(newest, sa.and_(newest.c.transcript_key == _SCORES.c.transcript_key, newest.c.at == _SCORES.c.in_force_since))
        if model is not None:
            query = query.where(_SCORES.c.model == model)
        if call_id is not None:
            query = query.where(_CALLS.c.call_id == call_id)
        with self._guard(), self._engine.connect() as db:
            for row in db.execution_options(yield_per=200).execute(query):
                info = _info(row.info)
                transcript = _transcript(row.words, info)
                body = loads(row.body, where=f"{self.url}, score of {info.call_id}")
                score = score_from_json({**_as_dict(body), "call_id": info.call_id}, where=f"{self.url}, {info.call_id}", transcript=transcript)
                yield dataclasses.replace(score, info=info)

    def failures(self) -> list[Failure]:
        """What could not be scored and has not been since."""
        with self._guard(), self._engine.connect() as db:
            rows = db.execute(sa.select(_FAILURES).order_by(_FAILURES.c.source)).all()
        return [Failure(source=row.source, reason=row.reason, message=row.message, call_id=row.call_id) for row in rows]

    def check(self) -> str:
        """What the database says of its own integrity.

        Raises:
            StoreError: it is damaged.
        """
        if self._engine.dialect.name != "sqlite":
            with self._guard(), self._engine.connect() as db:
                db.execute(sa.select(sa.literal(1)))
            return "reachable"
        with self._guard(), self._engine.connect() as db:
            said = str(db.execute(sa.text("PRAGMA integrity_check")).scalar())
        if said != "ok":
            raise StoreError(
                f"the file is damaged: {said.splitlines()[0]}", where=self.url, do="Restore a copy, or score the folder into a new store."
            )
        return "integrity ok"

    def save_about(self, about: str, of: str = "") -> None:
        """What the calls of a folder (`of`) are, in words for the report's top."""
        with self._guard(), self._engine.begin() as db:
            self._put(db, _ABOUT, {"key": f"about {digest(of)}", "value": about})

    def about(self) -> str | None:
        """All that `save_about` said of calls in this store, each once."""
        with self._guard(), self._engine.connect() as db:
            said = db.execute(sa.select(_ABOUT.c.value).where(_ABOUT.c.key.startswith("about ")).distinct().order_by(_ABOUT.c.value)).scalars().all()
        return " ".join(said) or None

    def status(self) -> Status:
        """Counts of what the store holds, scores by model stamp."""

        def count(db: sa.Connection, table: sa.Table) -> int:
            return int(db.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())

        with self._guard(), self._engine.connect() as db:
            by_model = db.execute(sa.select(_SCORES.c.model, sa.func.count()).group_by(_SCORES.c.model).order_by(_SCORES.c.model)).all()
            return Status(
                calls=count(db, _CALLS),
                transcripts=count(db, _TRANSCRIPTS),
                scores={model: int(number) for model, number in by_model},
                failures=count(db, _FAILURES),
            )


class _Guard:
    """Turns whatever the database raises into a StoreError that names the store and hides its password."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, SQLAlchemyError):
            said = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise StoreError(f"the database said: {said}", where=self._url, do="Check that it can be reached, has room, and is a store.") from None


def _masked(url: str) -> str:
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "--store"


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _info_json(info: CallInfo) -> dict[str, Any]:
    # Covariates keep a key of their own here: a calls table may name a column like one of ours in a later version.
    own = {name: value for name, value in info.to_json().items() if name in _INFO_KEYS and name not in info.covariates}
    return own | {"covariates": dict(info.covariates)}


def _info(body: str) -> CallInfo:
    raw = _as_dict(loads(body, where="call"))
    covariates = raw.pop("covariates")
    started_at = raw.pop("started_at", None)
    return CallInfo(**raw, started_at=datetime.fromisoformat(started_at) if started_at else None, covariates=covariates)


def _transcript(body: str, info: CallInfo) -> Transcript:
    read = transcript_from_json(loads(body, where=info.call_id), where=info.call_id, call_id=info.call_id, empty_ok=True)
    return dataclasses.replace(read, info=info)


def _as_dict(value: object) -> dict[str, Any]:
    assert isinstance(value, dict)
    return dict(value)
