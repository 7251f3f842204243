"""Calls per second of scoring from transcripts, beside the usual script: three runs of a transformers pipeline of the same encoder over all turns.

    python benchmarks/model_speed.py dev.jsonl [--model default] [--calls 0] [--threads 1 2]

The pipeline's classifier is the shipped encoder with a fresh classification head, saved to a temporary folder. Each contender runs in a process of
its own, one after the other, so that the peak memory is its own; loading and a warm-up are not in the throughput. Ratios are of calls per second.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from figures import call_of, read_rows

from analyzer.records import CallInfo, Transcript

CLASSIFIERS = 3
BATCH_SIZE = 32
WARM_UP_CALLS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one contender took over all calls."""

    load_s: float
    work_s: float
    peak_mib: float


def transcripts_of(path: Path, calls: int) -> list[Transcript]:
    rows = read_rows(path)
    return [Transcript(info=CallInfo(call_id=row["id"]), turns=call_of(row)) for row in (rows[:calls] if calls else rows)]


def run_ours(model_name: str, calls: Sequence[Transcript], threads: int) -> Run:
    import torch

    torch.set_num_threads(threads)
    start_s = time.perf_counter()
    from analyzer.model import load_model
    from analyzer.scoring import score

    model = load_model(model_name)
    score(calls[:WARM_UP_CALLS], model)
    return _timed(start_s, lambda: score(calls, model))


def run_pipeline(folder: str, texts: Sequence[str], threads: int, batch_size: int) -> Run:
    """All turns through the pipeline, once a classifier; with a batch size of 1 turn by turn, each a call of its own."""
    import torch

    torch.set_num_threads(threads)
    start_s = time.perf_counter()
    from transformers import pipeline

    classify = pipeline("text-classification", model=folder, tokenizer=folder, device="cpu", truncation=True)
    classify(list(texts[:BATCH_SIZE]), batch_size=batch_size)

    def work() -> None:
        for _ in range(CLASSIFIERS):
            if batch_size > 1:
                classify(list(texts), batch_size=batch_size)
            else:
                for text in texts:
                    classify(text)

    return _timed(start_s, work)


def _timed(start_s: float, work: Callable[[], object]) -> Run:
    ready_s = time.perf_counter()
    work()
    work_s = time.perf_counter() - ready_s
    return Run(load_s=ready_s - start_s, work_s=work_s, peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def write_classifier(model_name: str, folder: Path) -> None:
    """The encoder of a model directory as a transformers text classifier with a random head of three labels."""
    import torch
    from safetensors.torch import load_file
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    from analyzer.model import check_model, find_model

    directory = find_model(model_name)
    torch.manual_seed(0)
    classifier = BertForSequenceClassification(BertConfig(**check_model(directory)["encoder"], num_labels=3))
    weights = {name: tensor.float() for name, tensor in load_file(directory / "encoder.safetensors").items()}
    left_out, foreign = classifier.bert.load_state_dict(weights, strict=False)
    if foreign or any(not name.startswith("pooler.") for name in left_out):
        raise SystemExit(f"{directory}: the encoder is not transformers' BERT: {[*foreign, *left_out]}")
    classifier.save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(directory / "tokenizer.json"),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=512,
    )
    tokenizer.save_pretrained(folder)


def alone(function: Callable[..., Run], *arguments: object) -> Run:
    """The function's result from a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("calls_file", type=Path, help="calls with turns (.jsonl)")
    parser.add_argument("--model", default="default")
    parser.add_argument("--calls", type=int, default=0, help="take only so many calls (0: all)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    given = parser.parse_args()
    calls = transcripts_of(given.calls_file, given.calls)
    texts = [turn.text for call in calls for turn in call.turns if turn.text.strip()]
    print(f"{len(calls)} calls, {len(texts)} turns, {len(set(texts))} of them distinct")
    print("threads  contender                       load s   work s  calls/s  peak MiB  ours is faster by")
    with tempfile.TemporaryDirectory() as folder:
        write_classifier(given.model, Path(folder))
        for threads in given.threads:
            ours = alone(run_ours, given.model, calls, threads)
            batched = alone(run_pipeline, folder, texts, threads, BATCH_SIZE)
            single = alone(run_pipeline, folder, texts, threads, 1)
            runs = {"ours": ours, f"{CLASSIFIERS} pipelines, batch_size={BATCH_SIZE}": batched, f"{CLASSIFIERS} pipelines, turn by turn": single}
            for name, run in runs.items():
                rate, ratio = len(calls) / run.work_s, run.work_s / ours.work_s
                print(f"{threads:7}  {name:30} {run.load_s:7.1f}  {run.work_s:7.1f}  {rate:7.2f}  {run.peak_mib:8.0f}  {ratio:.2f}x", flush=True)


if __name__ == "__main__":
    main()
