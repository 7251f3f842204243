"""What a real recogniser makes of our words: sample recordings and spoken turns of our own calls, recognised, aligned, counted into misheard.json.

Needs what recordings_sample/make/record.py needs (flite, festival with its voice, ffmpeg). PAIRS (JSON Lines: condition, said, heard) grows as the
work goes on; what it holds already is not recognised again.
Run: python benchmarks/misheard.py CALLS_FOLDER PAIRS.jsonl [TURNS]
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import cycle, pairwise, product
from pathlib import Path
from tempfile import TemporaryDirectory

from verify_whisper import SAMPLE, errors, scripts, words

from analyzer.asr import Transcriber, resolve
from analyzer.audio import segments, survey
from analyzer.config import AudioSettings
from analyzer.errors import AnalyzerError

sys.path.insert(0, str(SAMPLE / "make"))
from record import CODECS, VOICES, Said, Samples, Voice, mix, speak, write_sound

TABLE = Path(__file__).parents[1] / "analyzer" / "data" / "misheard.json"
#: Condition to the file's suffix and the noise's standard deviation: speech has 0.09, so 0.003 lies 30 dB below it, and 0.0016 35 dB.
CONDITIONS = {
    "16 kHz": (".flac", 3e-5),
    "8 kHz": (".wav", 1.5e-4),
    "16 kHz, noise at 30 dB": (".flac", 0.003),
    "8 kHz, noise at 35 dB": (".wav", 0.0016),
}
#: Turns of one voice in one recording.
TOGETHER = 4
#: A word of so many calls or more is common.
COMMON = 3
#: Swearing that nobody said would make a courteous agent a rude one.
SWEARING = re.compile(r"\b(?:fuck|shit|bitch|bastard|crap|damn|idiot|stupid|whore|ass(?:hole)?s?\b)")
LETTERS = re.compile(r"[A-Za-z' ,.?!;:–—…-]+")
#: A stretch of errors with more words on either side says nothing of single words, unless it falls apart at two words so much alike (0 to 1).
LONGEST = 3
ALIKE = 0.6


def turns(calls: Path, count: int) -> list[tuple[str, str]]:
    """(key, text) of `count` turns of 12 to 40 words in letters alone, one of each call in its turn: the one with most common words not met before.

    Not of `asr` calls: a voice reads them without their punctuation, and their words hold errors already.
    """
    waiting: deque[dict[str, str]] = deque()
    in_calls: Counter[str] = Counter()
    for line in (calls / "train.jsonl").read_text(encoding="utf-8").splitlines():
        call = json.loads(line)
        said = {f"{call['id']}/{number}": turn["text"].replace("’", "'") for number, turn in enumerate(call["turns"])}
        in_calls.update(set(words(" ".join(said.values()))))
        if call["style"] == "clean":
            waiting.append({key: text for key, text in said.items() if 12 <= len(words(text)) <= 40 and LETTERS.fullmatch(text)})
    new = {word for word, times in in_calls.items() if times >= COMMON}
    drawn: list[tuple[str, str]] = []
    while waiting and len(drawn) < count:
        if left := waiting.popleft():
            best = max(left, key=lambda key: len(new & set(words(left[key]))))
            drawn.append((best, left.pop(best)))
            new -= set(words(drawn[-1][1]))
            waiting.append(left)
    return drawn


def recognised(path: Path, transcriber: Transcriber) -> str:
    """The words heard in a recording, in order of time."""
    settings = AudioSettings()
    found = transcriber.transcribe(segments(path, survey(path, settings).speech, settings), language="en")
    return " ".join(utterance.text for utterance in sorted(found, key=lambda utterance: utterance.start_s))


def spoken(voice: Voice, texts: list[str], noise: float) -> Samples:
    """The texts one after the other, half a second apart: (1, n) at 16 kHz."""
    lines: list[Said] = []
    for text in texts:
        lines.append(Said(who="A", text=text, start_s=lines[-1].end_s + 0.5 if lines else 0.6, samples=speak(voice, text)))
    return mix(lines, 0, noise=noise)[:1]


def listen(calls: Path, pairs: Path, count: int) -> None:
    """Append to `pairs` what the recogniser hears in the sample and in `count` turns, every voice speaking under every condition."""
    done = {json.loads(line)["key"] for line in pairs.read_text(encoding="utf-8").splitlines()} if pairs.exists() else set()
    transcriber = resolve("pocketsphinx").transcriber
    with TemporaryDirectory() as folder, pairs.open("a", encoding="utf-8") as file:

        def note(key: str, condition: str, said: str, path: Path) -> None:
            try:
                heard = recognised(path, transcriber)
            except AnalyzerError as error:
                print(f"{key}: {error}")
                return
            file.write(json.dumps({"key": key, "condition": condition, "said": said, "heard": heard}) + "\n")
            file.flush()

        drawn = turns(calls, count)
        for start, (voice, condition) in zip(range(0, len(drawn), TOGETHER), cycle(product(VOICES, CONDITIONS)), strict=False):
            keys, texts = zip(*drawn[start : start + TOGETHER], strict=True)
            suffix, noise = CONDITIONS[condition]
            path = Path(folder, "said" + suffix)
            if " ".join(keys) not in done:
                write_sound(path, spoken(VOICES[voice], list(texts), noise), CODECS[suffix])
                note(" ".join(keys), condition, " ".join(texts), path)
        for key, path, script in scripts():
            if key not in done:
                note(key, "the sample", script, path)


def confusions(said: list[str], heard: list[str]) -> Iterator[tuple[str, str]]:
    """(word, what was written in its place: up to two words, "" for none) of the stretches of errors that can be told apart."""
    for kind, a, b, c, d in SequenceMatcher(None, said, heard, autojunk=False).get_opcodes():
        if kind != "equal":
            yield from stretch(said[a:b], heard[c:d])


def stretch(said: list[str], heard: list[str]) -> list[tuple[str, str]]:
    """The confusions of one stretch of errors; a long one is parted at the two words most alike, over and over, and what stays long is left out."""
    if not said or (len(said) <= LONGEST and len(heard) <= LONGEST):
        return shared_out(said, heard) if said else []
    pairs = product(range(len(said)), range(len(heard)))
    alike, i, j = max(((SequenceMatcher(None, said[i], heard[j]).ratio(), i, j) for i, j in pairs), default=(0.0, 0, 0))
    if alike < ALIKE:
        return []
    return [*stretch(said[:i], heard[:j]), (said[i], heard[j]), *stretch(said[i + 1 :], heard[j + 1 :])]


def shared_out(said: list[str], heard: list[str]) -> list[tuple[str, str]]:
    """Each word with its share of `heard`, in order, none to two words, so that the shares look most like the words, and are most even."""
    ways: list[tuple[float, int, list[tuple[str, str]]]] = []
    for cuts in product(range(len(heard) + 1), repeat=len(said) - 1):
        parts = [heard[start:end] for start, end in pairwise((0, *cuts, len(heard)))]
        if list(cuts) == sorted(cuts) and max(map(len, parts)) <= 2:
            given = [(word, " ".join(part)) for word, part in zip(said, parts, strict=True)]
            alike = sum(block.size for word, part in given for block in SequenceMatcher(None, word, part, autojunk=False).get_matching_blocks())
            ways.append((alike, -sum(len(part) ** 2 for part in parts), given))
    return max(ways)[2] if ways else []


def main(calls: Path, pairs: Path, count: int) -> None:
    """Listen, then write the table and print the word error rate of each condition."""
    listen(calls, pairs, count)
    table: defaultdict[str, list[str]] = defaultdict(list)
    total, wrong = Counter[str](), Counter[str]()
    for line in pairs.read_text(encoding="utf-8").splitlines():
        pair = json.loads(line)
        said, heard = ([word for raw in words(pair[side]) if (word := raw.strip("'"))] for side in ("said", "heard"))
        total[pair["condition"]] += len(said)
        wrong[pair["condition"]] += errors(said, heard)
        for word, written in confusions(said, heard):
            if written != word and not SWEARING.search(written):
                table[word].append(written)
    rows = ",\n".join(f"{json.dumps(word)}: {json.dumps(sorted(table[word]))}" for word in sorted(table))
    TABLE.write_text(f"{{\n{rows}\n}}\n", encoding="utf-8")
    for condition in (*CONDITIONS, "the sample"):
        print(f"{condition:24} {total[condition]:5} words, word error rate {wrong[condition] / max(total[condition], 1):.2f}")
    print(f"{total.total()} words, {len(table)} of them misheard, {sum(map(len, table.values()))} times in all")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 400)
