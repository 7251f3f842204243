"""One call and many calls: recording or transcript in, redacted and scored call out, stored once."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, cast

from analyzer.asr import Resolved, Transcriber, resolve
from analyzer.audio import Segment, Utterance, segments, survey
from analyzer.config import Settings, digest
from analyzer.engines import Engine, Lost
from analyzer.errors import AnalyzerError, AudioError, EngineError, InputError
from analyzer.readers.folder import Call, find_calls
from analyzer.records import CallInfo, CallScore, Failure, Speaker, Transcript, dumps
from analyzer.redaction import redact, redaction_digest
from analyzer.scoring import score, scoring_digest
from analyzer.speakers import tell_agent, to_turns
from analyzer.store import Place, Store, transcript_key
from analyzer.voices import separate

if TYPE_CHECKING:
    from analyzer.model import ConversationModel

ENGINES: Final[Mapping[str, str]] = {"local": "analyzer.engines.local"}
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A call that is in the store: `new` when this run scored it."""

    call_id: str
    source: str
    audio_s: float
    new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that a worker needs to do the same as every other worker."""

    settings: Settings = field(default_factory=Settings)
    agent_channel: int | None = None


class Analyzer:
    """Holds the loaded models and takes calls through the steps. Models are loaded when the first call needs them."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.settings = recipe.settings

    @property
    def takes_ready(self) -> bool:
        """Whether a transcript beside a recording is taken in its place: unless a speech engine was asked for by name."""
        return self.settings.speech.engine in ("auto", "transcript")

    @cached_property
    def store(self) -> Store:
        """The store of the settings; raises `StoreError`."""
        return Store(self.settings.store)

    @cached_property
    def model(self) -> ConversationModel:
        """The conversation model; raises `ModelError`."""
        from analyzer.model import load_model

        return load_model(self.settings.model.name)

    @cached_property
    def model_stamp(self) -> str:
        """The model's stamp, without loading it; raises `ModelError`."""
        from analyzer.model import check_model, find_model, stamp_of

        directory = find_model(self.settings.model.name)
        check_model(directory)
        return stamp_of(directory)

    @cached_property
    def rules(self) -> str:
        """The digest of what decides a score besides words and model."""
        return scoring_digest(self.settings)

    @cached_property
    def speech(self) -> Resolved:
        """The speech engine and why it was chosen; raises `EngineError`."""
        return resolve(self.settings.speech.engine, device=self.settings.speech.device, language=self.settings.speech.language)

    def score(self, source: str | Path | Transcript) -> CallScore:
        """Score one recording, one transcript file, or a `Transcript`.

        Raises:
            InputError: the file cannot be read, or holds more than one call.
            EngineError, ModelError: a model cannot be loaded.
        """
        return self.score_transcript(self.transcribe(source))

    def transcribe(self, source: str | Path | Transcript) -> Transcript:
        """The redacted words of one recording or transcript; raises as `score` does."""
        calls = list(find_calls([source], ready=self.takes_ready))
        if len(calls) != 1:
            raise InputError(f"holds {len(calls)} calls", where=str(source), do="Use score_many for more than one call.")
        if isinstance(calls[0], Failure):
            raise InputError(calls[0].message)
        return self.hear(calls[0])

    def score_many(self, sources: Iterable[str | Path | Transcript], jobs: int = 1) -> Iterator[CallScore | Failure]:
        """Score many, each failing alone; with `jobs` over 1 in that many processes and in no certain order."""
        return self._each(_score, find_calls(sources, ready=self.takes_ready), jobs)

    def transcribe_many(self, sources: Iterable[str | Path | Transcript], jobs: int = 1) -> Iterator[Transcript | Failure]:
        """As `score_many`, stopping after redaction."""
        return self._each(Analyzer.hear, find_calls(sources, ready=self.takes_ready), jobs)

    def batch(self, calls: Iterable[Call | Failure], jobs: int = 1) -> Iterator[Done | Failure]:
        """Bring every call into the store of the settings; what is there already is found first, before the conversation model is loaded."""
        rest: list[Call | Failure] = []
        for call in calls:
            done = None if isinstance(call, Failure) else self._try(Analyzer.stored, call)
            if isinstance(done, Done):
                yield done
            else:
                rest.append(call if done is None else done)
        for result in self._each(Analyzer.store_one, rest, min(jobs, max(1, len(rest)))):
            if isinstance(result, Failure):
                self.store.save_failure(result)
            yield result

    def _clean_info(self, call: Call) -> CallInfo:
        """What is known of the call, redacted as its words are."""
        return redact(Transcript(info=call.info, turns=()), self.settings.redaction.level).info

    def stored(self, call: Call) -> Done | None:
        """The call as it is in the store, its table columns brought up to date; `None` where there is no score of it yet."""
        if not self.store.confirm(self._clean_info(call), self.place(call), self.model_stamp):
            return None
        return Done(call_id=call.info.call_id, source=call.source, audio_s=0.0, new=False)

    def _try(self, step: Callable[[Analyzer, Call], Out], call: Call) -> Out | Failure:
        """One step on one call, any failure as a `Failure`: one call never stops the others."""
        try:
            return step(self, call)
        except AnalyzerError as error:
            return Failure(source=call.source, call_id=call.info.call_id, reason=error.reason, message=str(error))
        except Exception as error:  # a defect of ours; its own text is left out, for it may hold what was said
            place = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
            message = f"{call.source}: a defect in analyzer ({what}). Please report it with this line."
            return Failure(source=call.source, call_id=call.info.call_id, reason="defect", message=message)

    def _each(self, step: Callable[[Analyzer, Call], Out], calls: Iterable[Call | Failure], jobs: int) -> Iterator[Out | Failure]:
        """Run one step on every call, on this machine; calls that failed at reading come back as they are, first."""
        run = cast(Engine, importlib.import_module(ENGINES["local"]).run)
        unread: list[Failure] = []
        setup = partial(_worker, self if jobs == 1 else self.recipe, step, jobs)
        for call, result in run(setup, _readable(calls, unread), jobs):
            while unread:
                yield unread.pop()
            if isinstance(result, Lost):
                yield Failure(source=call.source, call_id=call.info.call_id, reason="crash", message=f"{call.source}: {result.how}.")
            else:
                yield result
        yield from unread

    def hear(self, call: Call) -> Transcript:
        """Decode, transcribe, assign speakers, redact: nothing unredacted leaves this function."""
        heard = call.ready or self._listen(call)
        if any(turn.speaker == "unknown" for turn in heard.turns):
            heard = _with_roles(heard, self.recipe.agent_channel)
        return redact(dataclasses.replace(heard, info=call.info), self.settings.redaction.level)

    def _listen(self, call: Call) -> Transcript:
        assert call.path is not None
        limits, engine = self.settings.audio, self._engine(call)
        heard = survey(call.path, limits)
        pieces: Iterable[Segment] = segments(call.path, heard.speech, limits)
        if heard.layout != "two-channel":
            pieces = separate(pieces)
        said = tuple(engine.transcribe(pieces, language=self.settings.speech.language))
        agent, confidence = self._agent(said, heard.layout, call)
        return Transcript(
            info=call.info,
            turns=to_turns(said, agent),
            language=self.settings.speech.language,
            events=heard.events,
            asr=engine.stamp,
            duration_s=heard.duration_s,
            role_confidence=confidence,
        )

    def _engine(self, call: Call) -> Transcriber:
        if self.settings.speech.engine == "transcript":
            do = "Put one there by the same stem (.json, .vtt, .srt), or choose a speech engine with --asr."
            raise EngineError("there is no ready transcript beside the recording", where=call.source, do=do)
        return self.speech.transcriber

    def _agent(self, said: tuple[Utterance, ...], layout: str, call: Call) -> tuple[int | None, float | None]:
        if (given := self.recipe.agent_channel) is not None:
            if layout != "two-channel":
                what = f"--agent-channel {given} was given, but the recording is {layout}"
                raise AudioError(what, where=call.source, do="Leave the option out for such recordings: the words tell who is the agent.")
            return given, None
        texts: dict[int, str] = {}
        for utterance in said:
            texts[utterance.channel] = f"{texts.get(utterance.channel, '')} {utterance.text}".strip()
        return tell_agent(texts)

    def score_transcript(self, transcript: Transcript) -> CallScore:
        """Score words that are redacted already."""
        return score([transcript], self.model, self.settings)[0]

    def place(self, call: Call) -> Place:
        """Under which keys a store holds this call: the same content, heard, redacted and scored in the same way, is not done again."""
        if call.ready is not None:
            words = call.ready.to_json()
            parts = {name: words.get(name) for name in ("turns", "language", "events", "duration_s", "role_confidence")}
            content, heard = hashlib.sha256(dumps(parts).encode()).hexdigest(), digest(call.ready.asr, self.recipe.agent_channel)
        else:
            assert call.path is not None
            content = _sha256(call.path)
            cuts = (self.settings.audio.vad_padding_s, self.settings.audio.max_segment_s)
            heard = digest(self._engine(call).stamp, self.settings.speech.language, cuts, self.recipe.agent_channel)
        key = transcript_key(content, heard, digest(self.settings.redaction.level, redaction_digest()))
        return Place(source=call.source, content_sha256=content, transcript_key=key, rules=self.rules)

    def store_one(self, call: Call) -> Done:
        """The one unit of work: a call not yet in the store is heard, scored and saved, in one transaction."""
        if (done := self.stored(call)) is not None:
            return done
        place = self.place(call)
        transcript = self.store.transcript(place.transcript_key, self._clean_info(call)) or self.hear(call)
        made = self.score_transcript(transcript)
        self.store.save(made, place)
        return Done(call_id=call.info.call_id, source=call.source, audio_s=made.talk.duration_s or 0.0, new=True)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AudioError(f"cannot be read: {error.strerror}", where=str(path), do="Check the path and its permissions.") from None


def _score(analyzer: Analyzer, call: Call) -> CallScore:
    return analyzer.score_transcript(analyzer.hear(call))


def _worker(held: Analyzer | Recipe, step: Callable[[Analyzer, Call], Out], jobs: int) -> Callable[[Call], Out | Failure]:
    """What a worker applies to each call, its models loaded once."""
    if isinstance(held, Recipe):
        # N workers of N threads each would fight for the same cores.
        os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))
    analyzer = Analyzer(held) if isinstance(held, Recipe) else held

    return partial(analyzer._try, step)


def _readable(calls: Iterable[Call | Failure], unread: list[Failure]) -> Iterator[Call]:
    for call in calls:
        if isinstance(call, Failure):
            unread.append(call)
        else:
            yield call


def _with_roles(transcript: Transcript, given: int | None) -> Transcript:
    """Roles as given or told from the words, for transcripts that name their speakers only by number (`Turn.channel`)."""
    texts: dict[int, str] = {}
    for turn in transcript.turns:
        if turn.speaker == "unknown" and turn.channel is not None:
            texts[turn.channel] = f"{texts.get(turn.channel, '')} {turn.text}".strip()
    if len(texts) < 2:
        return transcript
    agent, confidence = (given, None) if given in texts else tell_agent(texts)
    if agent is None:
        return dataclasses.replace(transcript, role_confidence=confidence)
    roles: dict[int, Speaker] = {channel: "agent" if channel == agent else "customer" for channel in texts}
    turns = tuple(
        dataclasses.replace(turn, speaker=roles[turn.channel]) if turn.speaker == "unknown" and turn.channel in roles else turn
        for turn in transcript.turns
    )
    return dataclasses.replace(transcript, turns=turns, role_confidence=confidence)


def load(model: str = "default", asr: str = "auto", *, settings: Settings | None = None, agent_channel: int | None = None) -> Analyzer:
    """An `Analyzer` whose conversation model is loaded; `model` and `asr` override the settings.

    Raises:
        ModelError: the model cannot be loaded.
    """
    base = settings or Settings()
    chosen = dataclasses.replace(base, model=dataclasses.replace(base.model, name=model), speech=dataclasses.replace(base.speech, engine=asr))
    analyzer = Analyzer(Recipe(settings=chosen, agent_channel=agent_channel))
    _ = analyzer.model
    return analyzer
