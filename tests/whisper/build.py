"""Trains the small Whisper of the tests from synthetic speech: `python -m tests.whisper.build` (needs flite and festival)."""

from __future__ import annotations

import argparse
import pickle
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from whisper.audio import log_mel_spectrogram
from whisper.model import ModelDimensions, Whisper, sinusoids

from tests.whisper.compose import IGNORE, SOUNDS, WINDOW_FRAMES, Plan, Window, compose, tokenizer, word_tokens
from tests.whisper.fixture import ASSET, MULTILINGUAL_VOCABULARY, phrases
from tests.whisper.voices import VOICES, Clip, speak

WIDTH: Final = 96
HEADS: Final = 3
LAYERS: Final = 2
FRAMES_PER_BATCH: Final = 3000
EVERY: Final = 25


class Small(nn.Module):
    """Whisper's own modules, an embedding with one row for all untrained tokens, times as mapped sinusoids, and the teachers' heads."""

    def __init__(self) -> None:
        super().__init__()
        tok = tokenizer()
        words = {t for phrase in phrases() for word in word_tokens(phrase.text) for t in word}
        flags = {tok.eot, tok.sot, tok.transcribe, tok.sot_prev, tok.no_speech, tok.no_timestamps}
        self.plain = sorted(words | flags | {tok.to_language_token(code) for code in ("en", "de")})
        self.others = MULTILINGUAL_VOCABULARY - len(self.plain) - 1501
        self.dims = ModelDimensions(80, WINDOW_FRAMES, WIDTH, HEADS, LAYERS, len(self.plain) + 1, 448, WIDTH, HEADS, LAYERS)
        self.body = Whisper(self.dims)
        self.register_buffer("times", sinusoids(1501, WIDTH))
        self.time = nn.Linear(WIDTH, WIDTH)
        self.sound = nn.Linear(WIDTH, len(SOUNDS))
        self.phrase = nn.Linear(WIDTH, len(phrases()) + 1)
        self._start()

    def _start(self) -> None:
        """Encoder heads start as narrow looks a few frames back, here and ahead; decoder queries as keys; times as positions."""
        with torch.no_grad():
            nn.init.normal_(self.body.decoder.token_embedding.weight, std=0.06)
            nn.init.normal_(self.body.decoder.positional_embedding, std=0.02)
            self.time.weight.copy_(0.1 * torch.eye(WIDTH))
            self.time.bias.zero_()
            self.body.encoder.conv1.weight.mul_(3.0)
            self.body.encoder.conv2.weight.mul_(4.0)
            for block in self.body.decoder.blocks:
                for attention in (block.attn, block.cross_attn):
                    attention.key.weight.mul_(1.3)
                    attention.query.weight.copy_(attention.key.weight)
            for block, first, away in zip(self.body.encoder.blocks, (0, 8), ((-4, 0, 4), (-12, 0, 12)), strict=True):
                _look_near(block.attn, first, away)

    def rows(self) -> Tensor:
        """Embeddings of the trained tokens, the shared one, the 1501 times."""
        return torch.cat([self.body.decoder.token_embedding.weight, self.time(self.times)])

    def encode(self, mel: Tensor, first: Tensor) -> Tensor:
        """(batch, 80, 2n) spectrograms whose first frame stands at `first` (batch) of the window -> (batch, n, width)."""
        encoder = self.body.encoder
        x = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mel)))).permute(0, 2, 1)
        where = first[:, None] + torch.arange(x.shape[1])
        x = x + encoder.positional_embedding[where]
        for block in encoder.blocks:
            x = block(x)
        return encoder.ln_post(x)

    def decode(self, tokens: Tensor, heard: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids (batch, m) in compact numbering -> logits and the last layer's attention over frames, as log-probabilities."""
        rows = self.rows()
        x = rows[tokens] + self.body.decoder.positional_embedding[: tokens.shape[1]]
        look = torch.empty(0)
        for block in self.body.decoder.blocks:
            x = x + block.attn(block.attn_ln(x), mask=self.body.decoder.mask)[0]
            cross, look = _attend(block.cross_attn, block.cross_attn_ln(x), heard)
            x = x + cross
            x = x + block.mlp(block.mlp_ln(x))
        logits = self.body.decoder.ln(x) @ rows.T
        shift = torch.zeros(len(rows))
        shift[len(self.plain)] = float(np.log(self.others))
        return logits + shift, look

    def compact(self, token: int) -> int:
        """The row of a token id."""
        first_time = tokenizer().timestamp_begin
        return len(self.plain) + 1 + token - first_time if token >= first_time else self.plain.index(token)


def _look_near(attention: Any, first: int, away: Sequence[int]) -> None:
    """Sets query and key of each head so that it attends `away` frames off: sinusoids from the `first` frequency on, turned by that much."""
    half, size = WIDTH // 2, WIDTH // HEADS
    frequencies = torch.exp(-np.log(10000) / (half - 1) * torch.arange(half))
    attention.query.weight.mul_(0.3)
    attention.key.weight.mul_(0.3)
    for head, frames in enumerate(away):
        for row in range(size // 2):
            i, sine, cosine = first + row, head * size + row, head * size + size // 2 + row
            turn = frequencies[i] * frames
            attention.key.weight[sine, i] += 1.4
            attention.key.weight[cosine, half + i] += 1.4
            attention.query.weight[sine, i] += 1.4 * torch.cos(turn)
            attention.query.weight[sine, half + i] += 1.4 * torch.sin(turn)
            attention.query.weight[cosine, half + i] += 1.4 * torch.cos(turn)
            attention.query.weight[cosine, i] -= 1.4 * torch.sin(turn)


def _attend(attention: Any, x: Tensor, heard: Tensor) -> tuple[Tensor, Tensor]:
    parts = [f(y).unflatten(-1, (HEADS, -1)).transpose(1, 2) for f, y in ((attention.query, x), (attention.key, heard), (attention.value, heard))]
    look = (parts[0] @ parts[1].transpose(-1, -2)) * (WIDTH // HEADS) ** -0.5
    look = look.float().log_softmax(-1)
    return attention.out((look.exp().to(x.dtype) @ parts[2]).transpose(1, 2).flatten(2)), look


def speak_all() -> list[Clip]:
    """Every phrase by every voice at four rates and three pitches (the HTS voice knows only one rate)."""
    manners = ((0.85, 1.0), (0.95, 0.9), (1.05, 1.12), (1.2, 1.0))
    return [
        speak(number, phrase.spoken, voice, stretch=stretch, pitch=pitch)
        for number, phrase in enumerate(phrases())
        for voice in VOICES
        for stretch, pitch in (manners if voice != "cmu_us_slt_arctic_hts" else manners[:1])
    ]


def draw(clips: dict[str, dict[str, Sequence[Clip]]], progress: float, rng: np.random.Generator) -> tuple[Plan, list[Window]]:
    """One batch of equal plans: short stretches anywhere in the window first, whole windows more and more."""
    kind = rng.random()
    if progress < 0.35 and kind < 0.9:
        frames = int(rng.integers(120, 240))
        plan = Plan(frames=frames, first_frame=_anywhere(frames, rng), most_phrases=4, silent=0.02, lead_s=0.3, pause_s=0.3)
    elif kind < 0.6 - 0.45 * progress:
        frames = int(rng.integers(220, 400))
        cut = rng.random() < 0.15
        plan = Plan(frames=frames, first_frame=WINDOW_FRAMES - frames if cut else _anywhere(frames, rng), most_phrases=4, cut=cut)
    elif kind < 0.85 - 0.4 * progress:
        plan = Plan(frames=int(rng.integers(500, 800)), most_phrases=7)
    elif rng.random() < 1 - 0.8 * progress:
        plan = Plan(frames=WINDOW_FRAMES, most_phrases=4, silent=0.1)
    else:
        plan = Plan(frames=WINDOW_FRAMES, most_phrases=18, pause_s=float(rng.choice([0.25, 1.0])), cut=bool(rng.random() < 0.3))
    return plan, [compose(clips, plan, rng) for _ in range(max(2, int(FRAMES_PER_BATCH * (0.5 + progress)) // plan.frames))]


def _anywhere(frames: int, rng: np.random.Generator) -> int:
    """The window's start, or any place that many frames fit."""
    return int(rng.integers(WINDOW_FRAMES - frames)) if rng.random() < 0.6 else 0


def loss_of(model: Small, plan: Plan, windows: list[Window], rng: np.random.Generator, progress: float) -> tuple[Tensor, dict[str, float]]:
    """The words' loss plus the teachers': sounds and phrases per frame, and where the last layer looks."""
    mel = torch.zeros(len(windows), 80, 2 * plan.frames)
    longest = max(len(w.tokens) for w in windows)
    tokens = torch.zeros(len(windows), longest, dtype=torch.long)
    targets = torch.full((len(windows), longest), IGNORE)
    inside = torch.zeros(len(windows), longest, plan.frames, dtype=torch.bool)
    for i, w in enumerate(windows):
        if len(w.samples) > 400:
            spectrum = log_mel_spectrogram(w.samples)
            mel[i, :, : spectrum.shape[1]] = spectrum[:, : 2 * plan.frames]
        for j, (token, target, (a, b)) in enumerate(zip(w.tokens, w.targets, w.spans, strict=True)):
            tokens[i, j] = _shaken(model.compact(token), model, rng, 4)
            targets[i, j] = IGNORE if target == IGNORE else _shaken(model.compact(target), model, rng, 1)
            inside[i, j, max(0, a - 1) : b + 1] = b > 0
    heard = model.encode(mel, torch.full((len(windows),), plan.first_frame))
    logits, look = model.decode(tokens, heard)
    words = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORE)
    sounds = F.cross_entropy(model.sound(heard).flatten(0, 1), torch.from_numpy(np.stack([w.sounds for w in windows])).flatten())
    named = F.cross_entropy(model.phrase(heard).flatten(0, 1), torch.from_numpy(np.stack([w.phrases for w in windows])).flatten())
    asked = inside.any(-1)
    looked = look.masked_fill(~inside[:, None], -1e4).logsumexp(-1).transpose(1, 2)[asked]
    astray = -looked.mean() if asked.any() else torch.zeros(())
    total = words + (0.5 - 0.3 * progress) * (sounds + named) + 0.25 * astray
    right = (logits.argmax(-1) == targets)[targets != IGNORE].float().mean()
    return total, {"words": words.item(), "sounds": sounds.item(), "phrases": named.item(), "astray": astray.item(), "right": right.item()}


def _shaken(row: int, model: Small, rng: np.random.Generator, most: int) -> int:
    """Times are moved by a few frames, so that no answer hangs on one frame."""
    first = len(model.plain) + 1
    return row if row < first else int(np.clip(row + rng.integers(-most, most + 1), first, first + 1500))


def save(model: Small, path: Path) -> None:
    """Half-precision weights; untrained tokens share one row; sinusoids and the teachers' heads stay out."""
    state = {k: v.half().contiguous() for k, v in model.body.state_dict().items()}
    state.pop("encoder.positional_embedding")
    state.pop("decoder.token_embedding.weight")
    rows, plain = model.rows().detach().half(), len(model.plain)
    begin = tokenizer().timestamp_begin
    state["tokens.ids"] = torch.tensor([*model.plain, *range(begin, begin + 1501)], dtype=torch.int32)
    state["tokens.rows"] = torch.cat([rows[:plain], rows[plain + 1 :]]).contiguous()
    state["tokens.other"] = rows[plain].clone()
    dims = {**vars(model.dims), "n_vocab": MULTILINGUAL_VOCABULARY}
    save_file(state, path, {name: str(value) for name, value in dims.items()})


def train(rank: int, args: argparse.Namespace) -> None:
    """One of `args.workers` processes: draws its own windows, shares gradients, follows one clock; the first one saves."""
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    dist.init_process_group("gloo", init_method=f"file://{args.meeting}", rank=rank, world_size=args.workers)
    rng = np.random.default_rng([args.seed, rank])
    clips: dict[str, dict[str, list[Clip]]] = {"en": defaultdict(list), "de": defaultdict(list)}
    for clip in pickle.loads(args.clips.read_bytes()):  # our own, written by main
        clips[phrases()[clip.phrase].language][clip.voice].append(clip)
    model = Small()
    if args.resume:
        model.load_state_dict(torch.load(args.resume))
    hidden = [p for name, p in model.body.named_parameters() if p.ndim == 2 and "blocks" in name]
    rest = [p for p in model.parameters() if all(p is not h for h in hidden)]
    optimisers = (
        torch.optim.Muon(hidden, lr=args.rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=args.rate, weight_decay=0.01, betas=(0.9, 0.98)),
    )
    began, step, progress, sums = time.monotonic(), 0, args.start, defaultdict(float)
    while progress < 1:
        for group in (g for optimiser in optimisers for g in optimiser.param_groups):
            group["lr"] = args.rate * min(1.0, (step + 1) / 15) * (0.03 + 0.97 * (1 + np.cos(np.pi * progress)) / 2)
        plan, windows = draw(clips, progress, rng)
        loss, parts = loss_of(model, plan, windows, rng, progress)
        model.zero_grad(set_to_none=False)
        loss.backward()
        _share(model, args.workers)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        clock = torch.tensor(args.start + (1 - args.start) * (time.monotonic() - began) / 60 / args.minutes)
        dist.broadcast(clock, 0)
        step, progress = step + 1, float(clock)
        for name, value in parts.items():
            sums[name] += value / EVERY
        if rank == 0 and step % EVERY == 0:
            print(f"{step} {progress:.2f} " + " ".join(f"{k} {v:.3f}" for k, v in sums.items()), flush=True)
            torch.save(model.state_dict(), args.out.with_suffix(".full.pt"))
            save(model, args.out)
        if step % EVERY == 0:
            sums.clear()
    if rank == 0:
        save(model, args.out)


def _share(model: Small, workers: int) -> None:
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in grads])
    dist.all_reduce(flat)
    for grad, part in zip(grads, (flat / workers).split([g.numel() for g in grads]), strict=True):
        grad.copy_(part.view_as(grad))


def main() -> None:
    """Trains on spoken clips for `--minutes` and writes the asset."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clips", type=Path, default=Path("clips.pickle"), help="where the spoken clips are kept between runs")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=float, default=0.0, help="share of the schedule already done")
    parser.add_argument("--resume", type=Path, help="a .full.pt of an earlier run")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--out", type=Path, default=ASSET)
    args = parser.parse_args()
    if not args.clips.exists():
        args.clips.write_bytes(pickle.dumps(speak_all()))
    with tempfile.TemporaryDirectory() as folder:
        args.meeting = Path(folder) / "meeting"
        torch.multiprocessing.spawn(train, (args,), nprocs=args.workers)


if __name__ == "__main__":
    main()
