"""The tensors of the conversation model: the sentence encoder and the heads over a call's turns (torch; loaded lazily by `model`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

#: Longer turns are cut into windows of this many word pieces whose embeddings are averaged by length: no word is dropped.
WINDOW_TOKENS: Final = 128
#: Of a longer turn the listener reads this many word pieces.
MOST_STATES: Final = 2 * WINDOW_TOKENS
#: Hidden layers whose mean-pooled states make a turn's features. The last is made for topics; tone is plainer in the middle ones.
LAYERS: Final = (2, 4, 6)


class Encoder(nn.Module):
    """A BERT-class sentence encoder read from `config.json`, `tokenizer.json` and `encoder.safetensors`; computes in fp32.

    The layers are written out here, with the names that BERT checkpoints give them, because importing a library for them
    takes longer than scoring a call; a test holds them to that library's own answers.

    Args:
        directory: a model directory whose files were checked before.
        config: the encoder's settings as `transformers.BertConfig` takes them.
    """

    def __init__(self, directory: Path, config: dict[str, Any]) -> None:
        super().__init__()
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        self.embeddings = _Embeddings(config)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(_Layer(config) for _ in range(int(config["num_hidden_layers"])))})
        weights = {name: tensor.float() for name, tensor in load_file(directory / "encoder.safetensors").items()}
        self.load_state_dict(weights, strict=True)
        self.eval()
        self.tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(WINDOW_TOKENS)
        self.width = len(LAYERS) * int(config["hidden_size"])

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, lowest first."""
        return cast(nn.ModuleList, self.encoder["layer"])

    def encode(self, texts: Sequence[str], *, batch_size: int = 64) -> Tensor:
        """Features of each text, shape (len(texts), width), fp32. Equal texts are computed once.

        Batches are made of texts of like length; what a text is batched with moves its features by rounding only (< 1e-5).
        """
        return self.encode_words(texts, until=len(self.layers), batch_size=batch_size)[0]

    def encode_words(self, texts: Sequence[str], *, until: int, batch_size: int = 64) -> tuple[Tensor, list[Tensor]]:
        """As `encode`, and the states (word pieces, hidden) of each text after layer `until`, the first `MOST_STATES` of them."""
        distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        windows = sorted(self.windows(list(distinct)), key=lambda window: len(window[1]))
        total = torch.zeros(len(distinct), self.width)
        count = torch.zeros(len(distinct), 1)
        states: list[list[Tensor]] = [[] for _ in distinct]
        with torch.inference_mode():
            for start in range(0, len(windows), batch_size):
                batch = windows[start : start + batch_size]
                owner = torch.tensor([number for number, _ in batch])
                ids, mask = padded([torch.tensor(row) for _, row in batch])
                low, middle = self.pool(self.embeddings(ids), mask, until=until)
                high, _ = self.pool(middle, mask, below=until)
                total.index_add_(0, owner, torch.cat([low, high], dim=1))
                count.index_add_(0, owner, mask.sum(1, keepdim=True).float())
                for (number, row), state in zip(batch, middle, strict=True):
                    states[number].append(state[: len(row)])
        features = total / count.clamp_min(1.0)
        numbers = torch.tensor([distinct[text] for text in texts], dtype=torch.long)
        whole = [torch.cat(parts)[:MOST_STATES] if parts else torch.zeros(0, self.width // len(LAYERS)) for parts in states]
        return features[numbers].clone(), [whole[distinct[text]] for text in texts]

    def windows(self, texts: Sequence[str]) -> list[tuple[int, list[int]]]:
        """The word pieces of every text in windows of at most `WINDOW_TOKENS`, each with the number of its text."""
        return [(n, part.ids) for n, whole in enumerate(self.tokenizer.encode_batch(list(texts))) for part in (whole, *whole.overflowing)]

    def pool(self, states: Tensor, mask: Tensor, *, below: int = 0, until: int | None = None) -> tuple[Tensor, Tensor]:
        """Runs the layers above `below`, up to `until`, on states (windows, tokens, hidden).

        Gives the sums over real tokens at those of `LAYERS` among them, side by side, and the last states.
        """
        weight = mask.unsqueeze(-1).float()
        attend = mask[:, None, None, :]
        sums = [states.new_zeros(len(states), 0)]
        for number, layer in enumerate(self.layers[below:until], start=below + 1):
            states = layer(states, attend)
            if number in LAYERS:
                sums.append((states * weight).sum(1))
        return torch.cat(sums, dim=1), states


def padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows of unlike length as one tensor, zeros at their ends, and a mask that is True on what is real."""
    whole = nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    return whole, torch.arange(whole.shape[1]) < lengths[:, None]


class _Embeddings(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width = int(config["hidden_size"])
        self.word_embeddings = nn.Embedding(int(config["vocab_size"]), width)
        self.position_embeddings = nn.Embedding(int(config["max_position_embeddings"]), width)
        self.token_type_embeddings = nn.Embedding(int(config["type_vocab_size"]), width)
        self.LayerNorm = nn.LayerNorm(width, eps=float(config["layer_norm_eps"]))

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1])
        whole = self.word_embeddings(ids) + self.position_embeddings(places) + self.token_type_embeddings.weight[0]
        return cast(Tensor, self.LayerNorm(whole))


class _Layer(nn.Module):
    """One layer of BERT (Devlin et al. 2019, arXiv:1810.04805): attention, then two dense layers, each added to its input and normalised."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, inner, eps = int(config["hidden_size"]), int(config["intermediate_size"]), float(config["layer_norm_eps"])
        self.parts = int(config["num_attention_heads"])
        self.attention = nn.ModuleDict(
            {
                "self": nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")}),
                "output": nn.ModuleDict({"dense": nn.Linear(width, width), "LayerNorm": nn.LayerNorm(width, eps=eps)}),
            }
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = nn.ModuleDict({"dense": nn.Linear(inner, width), "LayerNorm": nn.LayerNorm(width, eps=eps)})

    def forward(self, states: Tensor, attend: Tensor) -> Tensor:
        own, out = cast(nn.ModuleDict, self.attention["self"]), cast(nn.ModuleDict, self.attention["output"])
        query, key, value = (own[name](states).unflatten(-1, (self.parts, -1)).transpose(1, 2) for name in ("query", "key", "value"))
        heard = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attend).transpose(1, 2).flatten(2)
        states = out["LayerNorm"](states + out["dense"](heard))
        inner = nn.functional.gelu(self.intermediate["dense"](states))
        return cast(Tensor, self.output["LayerNorm"](states + self.output["dense"](inner)))


#: What a head may know of a turn's speaker.
SPEAKER_IDS: Final = {"agent": 0, "customer": 1, "unknown": 2}
#: Where a turn stands among the turns its head reads (see `model.view`).
PLACES: Final = 12
#: "Not said": used for the opening and, at random, in training.
NOWHERE: Final = PLACES


class Listener(nn.Module):
    """Reads a whole call word by word: upper layers of an encoder over the word pieces of all turns, so that words answer words across turns.

    Args:
        config: the encoder's settings.
        layers: how many of its upper layers.
    """

    def __init__(self, config: dict[str, Any], layers: int) -> None:
        super().__init__()
        width = int(config["hidden_size"])
        self.layers = nn.ModuleList(_Layer(config) for _ in range(layers))
        self.speaker = nn.Embedding(len(SPEAKER_IDS), width)
        self.place = nn.Embedding(PLACES + 1, width)
        nn.init.normal_(self.speaker.weight, std=0.02)
        nn.init.normal_(self.place.weight, std=0.02)

    def forward(self, calls: Sequence[Sequence[Tensor]], speakers: Sequence[Tensor], places: Sequence[Tensor]) -> list[Tensor]:
        """What each turn means in its call, (turns, hidden) per call; zeros for turns that are not read.

        Args:
            calls: per call and turn the states (tokens, hidden) of the turn's word pieces after the encoder's lower layers.
            speakers: per call the ids of `SPEAKER_IDS`, (turns,).
            places: per call the ids below `PLACES`, or `NOWHERE`, (turns,).
        """
        out = [self.place.weight.new_zeros(0)] * len(calls)
        kept = [heard([len(turn) for turn in turns]) for turns in calls]
        order = sorted(range(len(calls)), key=lambda n: sum(len(calls[n][turn]) for turn in kept[n]))
        for start in range(0, len(order), _CALLS):
            chunk = order[start : start + _CALLS]
            rows, owners = [], []
            for n in chunk:
                sizes = torch.tensor([len(calls[n][turn]) for turn in kept[n]])
                owner = torch.tensor(kept[n]).repeat_interleave(sizes)
                who = self.speaker(speakers[n])[owner] + self.place(places[n])[owner]
                rows.append(torch.cat([calls[n][turn] for turn in kept[n]]) + who)
                owners.append(owner)
            states, mask = padded(rows)
            for layer in self.layers:
                states = layer(states, mask[:, None, None, :])
            for n, owner, state in zip(chunk, owners, states, strict=True):
                turns = len(calls[n])
                sums = state.new_zeros(turns, state.shape[1]).index_add(0, owner, state[: len(owner)])
                out[n] = sums / torch.bincount(owner, minlength=turns).clamp_min(1)[:, None]
        return out


def heard(sizes: Sequence[int]) -> list[int]:
    """Which turns of `sizes` word pieces the listener reads: all of most calls; of long ones the last and the first, whole, within `MOST_TOKENS`."""
    last, room = len(sizes), MOST_TOKENS - MOST_TOKENS // 4
    while last > 0 and (sizes[last - 1] <= room or last == len(sizes)):
        last -= 1
        room -= sizes[last]
    first, room = 0, room + MOST_TOKENS // 4
    while first < last and sizes[first] <= room:
        room -= sizes[first]
        first += 1
    return [*range(first), *range(last, len(sizes))]


#: Questions about one utterance by itself, each with the names of its values: how polite a request is, and which feelings a remark shows.
TONES: Final = {"politeness": ("polite",), "feelings": ("positive", "negative", "ambiguous", "neutral")}


#: How many word pieces of a call the listener reads, and of how many calls at a time.
MOST_TOKENS: Final = 640
_CALLS: Final = 8


class Head(nn.Module):
    """One question asked of a sequence of turns: a layer per turn, what the turns make of each other, attention over them, then the labels.

    A head sees the features, speakers and places of the turns it is given and nothing else: what it must not
    depend on is not given to it.

    Args:
        width: features per turn.
        labels: how many labels.
        hidden: width of the turn layer.
        context: whether turns are read in the light of their neighbours (a convolution over three turns) and of all others (a transformer layer).
    """

    def __init__(self, width: int, labels: int, *, hidden: int, context: bool) -> None:
        super().__init__()
        self.turn = nn.Linear(width, hidden)
        self.place = nn.Embedding(PLACES + 1, hidden)
        self.speaker = nn.Embedding(len(SPEAKER_IDS), hidden)
        self.near = nn.Conv1d(hidden, hidden, 3, padding=1) if context else None
        self.far = nn.TransformerEncoderLayer(hidden, 4, 2 * hidden, 0.2, "gelu", batch_first=True, norm_first=True) if context else None
        self.attend = nn.Linear(hidden, 1)
        self.drop = nn.Dropout(0.3)
        self.answer = nn.Linear(2 * hidden, labels)
        nn.init.normal_(self.place.weight, std=0.02)
        nn.init.normal_(self.speaker.weight, std=0.02)

    def turn_states(self, features: Tensor, speakers: Tensor, places: Tensor) -> Tensor:
        """What each turn says by itself, (calls, turns, hidden).

        Args:
            features: (calls, turns, width), standardised.
            speakers: ids of `SPEAKER_IDS`, (calls, turns).
            places: ids below `PLACES`, or `NOWHERE`, (calls, turns).
        """
        return nn.functional.gelu(self.turn(self.drop(features)) + self.place(places) + self.speaker(speakers))

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (calls, labels), attention (calls, turns) and the call's summary (calls, 2 * hidden).

        Args:
            states: from `turn_states`, (calls, turns, hidden).
            mask: True where there is a turn, (calls, turns). A call without turns is answered from the bias alone.
        """
        real = mask.unsqueeze(-1).to(states.dtype)
        states = states * real
        if self.near is not None and self.far is not None:
            states = (states + nn.functional.gelu(self.near(states.transpose(1, 2)).transpose(1, 2))) * real
            # A row without any turn may not be all masked: attention over nothing is not a number.
            unread = ~mask & mask.any(1, keepdim=True)
            states = self.far(states, src_key_padding_mask=unread) * real
        scores = self.attend(states).squeeze(-1).masked_fill(~mask, -1e9)
        attention = torch.softmax(scores, dim=1) * mask.to(states.dtype)
        weighted = (attention.unsqueeze(-1) * states).sum(1)
        average = states.sum(1) / real.sum(1).clamp_min(1.0)
        summary = torch.cat([weighted, average], dim=1)
        return self.answer(self.drop(summary)), attention, summary


class Heads(nn.Module):
    """The three heads, the listener of the one that reads both sides, the cause behind a missing resolution, and the scale of the features.

    Args:
        config: the encoder's settings.
        sizes: question to number of labels, `cause` among them.
        hidden: width of the heads.
        listening: how many layers the listener has.
    """

    def __init__(self, config: dict[str, Any], sizes: dict[str, int], *, hidden: int, listening: int) -> None:
        super().__init__()
        inner = int(config["hidden_size"])
        width = len(LAYERS) * inner
        both = "resolution"
        self.listener = Listener(config, listening)
        self.heads = nn.ModuleDict(
            {name: Head(width + inner * (name == both), size, hidden=hidden, context=name == both) for name, size in sizes.items() if name != "cause"}
        )
        self.cause = nn.Linear(2 * hidden, sizes["cause"])
        #: What single utterances are asked in training, to teach the encoder tone: see `TONES`.
        self.tones = nn.ModuleDict({name: nn.Linear(width, len(values)) for name, values in TONES.items()})
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        #: Mean last-layer embedding of training calls, unit length, (calls, hidden size): what has been seen.
        self.register_buffer("seen", torch.zeros(0, inner))

    def standardise(self, features: Tensor) -> Tensor:
        """Features with the training turns' mean and scale taken out."""
        mean, scale = self.get_buffer("mean"), self.get_buffer("scale")
        return (features - mean) / scale
