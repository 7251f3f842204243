"""The tensors of the conversation model: the sentence encoder and the heads over a call's turns (torch; loaded lazily by `model`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

#: Longer turns are cut into windows of this many word pieces whose embeddings are averaged by length: no word is dropped.
WINDOW_TOKENS: Final = 128
#: Hidden layers whose mean-pooled states make a turn's features. The last is made for topics; tone is plainer in the middle ones.
LAYERS: Final = (2, 4, 6)


class Encoder:
    """A BERT-class sentence encoder read from `config.json`, `tokenizer.json` and `encoder.safetensors`; computes in fp32.

    Args:
        directory: a model directory whose files were checked before.
        config: the encoder's settings as `transformers.BertConfig` takes them.
    """

    def __init__(self, directory: Path, config: dict[str, Any]) -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer
        from transformers import BertConfig, BertModel

        self.bert = BertModel(BertConfig(**config), add_pooling_layer=False)
        weights = {name: tensor.float() for name, tensor in load_file(directory / "encoder.safetensors").items()}
        self.bert.load_state_dict(weights, strict=True)
        self.bert.eval()  # type: ignore[no-untyped-call]
        self.tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(WINDOW_TOKENS)
        self.width = len(LAYERS) * int(config["hidden_size"])

    def encode(self, texts: Sequence[str], *, batch_size: int = 64) -> Tensor:
        """Features of each text, shape (len(texts), width), fp32. Equal texts are computed once.

        Batches are made of texts of like length; what a text is batched with moves its features by rounding only (< 1e-5).
        """
        distinct = list(dict.fromkeys(texts))
        windows: list[tuple[int, list[int]]] = []
        for number, encoding in enumerate(self.tokenizer.encode_batch(distinct)):
            windows += [(number, part.ids) for part in (encoding, *encoding.overflowing)]
        windows.sort(key=lambda window: len(window[1]))
        total = torch.zeros(len(distinct), self.width)
        count = torch.zeros(len(distinct), 1)
        with torch.inference_mode():
            for start in range(0, len(windows), batch_size):
                batch = windows[start : start + batch_size]
                owner = torch.tensor([number for number, _ in batch])
                sums, sizes = self._window_sums([ids for _, ids in batch])
                total.index_add_(0, owner, sums)
                count.index_add_(0, owner, sizes)
        features = total / count.clamp_min(1.0)
        place = {text: number for number, text in enumerate(distinct)}
        return features[torch.tensor([place[text] for text in texts], dtype=torch.long)].clone()

    def _window_sums(self, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        longest = max(len(row) for row in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros(len(rows), longest, dtype=torch.long)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
        states = self.bert(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        weight = mask.unsqueeze(-1).float()
        return torch.cat([(states[layer] * weight).sum(1) for layer in LAYERS], dim=1), weight.sum(1)


#: What a head may know of a turn's speaker.
SPEAKER_IDS: Final = {"agent": 0, "customer": 1, "unknown": 2}
#: Where a turn stands among the turns its head reads. The last id means "not said": used for the opening and, at random, in training.
PLACES: Final = 8
NOWHERE: Final = PLACES


class Head(nn.Module):
    """One question asked of a sequence of turns: a layer per turn, attention over the turns, then the labels.

    A head sees the features, speakers and places of the turns it is given and nothing else: what it must not
    depend on is not given to it.

    Args:
        width: features per turn.
        labels: how many labels.
        hidden: width of the turn layer.
        context: whether each turn also sees its two neighbours (a convolution over three turns).
    """

    def __init__(self, width: int, labels: int, *, hidden: int, context: bool) -> None:
        super().__init__()
        self.turn = nn.Linear(width, hidden)
        self.place = nn.Embedding(PLACES + 1, hidden)
        self.speaker = nn.Embedding(len(SPEAKER_IDS), hidden)
        self.context = nn.Conv1d(hidden, hidden, 3, padding=1) if context else None
        self.attend = nn.Linear(hidden, 1)
        self.drop = nn.Dropout(0.3)
        self.answer = nn.Linear(2 * hidden, labels)
        nn.init.normal_(self.place.weight, std=0.02)
        nn.init.normal_(self.speaker.weight, std=0.02)

    def forward(self, features: Tensor, speakers: Tensor, places: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (calls, labels), attention (calls, turns) and the call's summary (calls, 2 * hidden).

        Args:
            features: (calls, turns, width), standardised.
            speakers: ids of `SPEAKER_IDS`, (calls, turns).
            places: ids below `PLACES`, or `NOWHERE`, (calls, turns).
            mask: True where there is a turn, (calls, turns). A call without turns is answered from the bias alone.
        """
        real = mask.unsqueeze(-1).to(features.dtype)
        states = nn.functional.gelu(self.turn(self.drop(features)) + self.place(places) + self.speaker(speakers)) * real
        if self.context is not None:
            near = self.context(states.transpose(1, 2)).transpose(1, 2)
            states = (states + nn.functional.gelu(near)) * real
        scores = self.attend(states).squeeze(-1).masked_fill(~mask, -1e9)
        attention = torch.softmax(scores, dim=1) * mask.to(features.dtype)
        weighted = (attention.unsqueeze(-1) * states).sum(1)
        average = states.sum(1) / real.sum(1).clamp_min(1.0)
        summary = torch.cat([weighted, average], dim=1)
        return self.answer(self.drop(summary)), attention, summary


class Heads(nn.Module):
    """The three heads, the cause behind a partial or missing resolution, and the standardisation of the features."""

    def __init__(self, width: int, sizes: dict[str, int], *, hidden: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(
            {name: Head(width, size, hidden=hidden, context=name == "resolution") for name, size in sizes.items() if name != "cause"}
        )
        self.cause = nn.Linear(2 * hidden, sizes["cause"])
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        #: Mean last-layer embedding of training calls, unit length, (calls, hidden size): what has been seen.
        self.register_buffer("seen", torch.zeros(0, width // len(LAYERS)))

    def standardise(self, features: Tensor) -> Tensor:
        """Features with the training turns' mean and scale taken out."""
        mean, scale = self.get_buffer("mean"), self.get_buffer("scale")
        return (features - mean) / scale
