"""Expands the small Whisper checkpoint of the tests into what the two Whisper engines load."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

HERE: Final = Path(__file__).parent
ASSET: Final = HERE / "model.safetensors"
PHRASES: Final = HERE / "phrases.json"
MULTILINGUAL_VOCABULARY: Final = 51865
#: GPT-2's way of cutting text into pieces before byte pairs are merged, as openai-whisper's tokenizer has it.
_PIECES: Final = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """One of the things the checkpoint can hear: its text, the language it is labelled with, and who says it in calls."""

    text: str
    language: str
    speaker: str
    spoken: str


def phrases() -> tuple[Phrase, ...]:
    """The closed set of phrases, in the order of `phrases.json`."""
    return tuple(Phrase(**{"spoken": row["text"], **row}) for row in json.loads(PHRASES.read_text(encoding="utf-8")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What `--asr openai-whisper:PATH` and `--asr whisper:PATH` take."""

    openai: Path
    ctranslate2: Path


def expanded(root: Path, asset: Path = ASSET) -> Files:
    """Both forms of the checkpoint, made once per asset below `root` (a folder that outlives the test run saves the conversion)."""
    folder = root / f"whisper-{hashlib.sha256(asset.read_bytes() + Path(__file__).read_bytes()).hexdigest()[:12]}"
    if not folder.exists():
        making = Path(tempfile.mkdtemp(dir=root))
        openai_checkpoint(making, asset)
        ctranslate2_folder(making, asset)
        shutil.rmtree(making / "transformers")
        try:
            making.rename(folder)
        except OSError:  # another test process was first
            shutil.rmtree(making)
    return Files(openai=folder / "tiny.pt", ctranslate2=folder / "ctranslate2")


def openai_checkpoint(folder: Path, asset: Path = ASSET) -> Path:
    """Writes `tiny.pt` (dims and state dict, what `whisper.load_model` reads) into `folder` once and returns its path."""
    import torch

    path = folder / "tiny.pt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        dims, state = _expand(asset)
        torch.save({"dims": dims, "model_state_dict": state}, path)
    return path


def transformers_folder(folder: Path, asset: Path = ASSET) -> Path:
    """Writes a Hugging Face Whisper folder (config, weights, tokenizer) into `folder`/transformers once and returns it."""
    path = folder / "transformers"
    if not (path / "model.safetensors").exists():
        from safetensors.torch import save_file

        path.mkdir(parents=True, exist_ok=True)
        dims, state = _expand(asset)
        _write_config(path, dims)
        _write_tokenizer(path)
        save_file({_hugging_face_name(name): tensor for name, tensor in state.items()}, path / "model.safetensors", {"format": "pt"})
    return path


def ctranslate2_folder(folder: Path, asset: Path = ASSET) -> Path:
    """Converts the Hugging Face folder with CTranslate2's own converter into `folder`/ctranslate2 once: what faster-whisper reads."""
    path = folder / "ctranslate2"
    if not (path / "model.bin").exists():
        from ctranslate2.converters import TransformersConverter

        source = transformers_folder(folder, asset)
        TransformersConverter(str(source), copy_files=["tokenizer.json", "preprocessor_config.json"]).convert(str(path), force=True)
    return path


def _expand(asset: Path) -> tuple[dict[str, int], dict[str, torch.Tensor]]:
    """Dims and full state dict: rows of tokens that were never trained are one shared row, sinusoids are computed."""
    import torch
    from safetensors import safe_open
    from whisper.model import sinusoids

    with safe_open(asset, "pt") as file:
        dims = {name: int(value) for name, value in file.metadata().items()}
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    ids, rows, other = state.pop("tokens.ids"), state.pop("tokens.rows"), state.pop("tokens.other")
    embedding = other.float().repeat(dims["n_vocab"], 1)
    embedding[ids.long()] = rows.float()
    state = {name: tensor.float() for name, tensor in state.items()}
    state["decoder.token_embedding.weight"] = embedding
    state["encoder.positional_embedding"] = sinusoids(dims["n_audio_ctx"], dims["n_audio_state"]).to(torch.float32)
    return dims, state


def _hugging_face_name(name: str) -> str:
    for old, new in (
        ("blocks", "layers"),
        ("mlp.0", "fc1"),
        ("mlp.2", "fc2"),
        ("mlp_ln", "final_layer_norm"),
        ("cross_attn_ln", "encoder_attn_layer_norm"),
        ("cross_attn", "encoder_attn"),
        ("attn_ln", "self_attn_layer_norm"),
        (".attn.", ".self_attn."),
        (".query", ".q_proj"),
        (".key", ".k_proj"),
        (".value", ".v_proj"),
        (".out", ".out_proj"),
        ("decoder.ln", "decoder.layer_norm"),
        ("encoder.ln_post", "encoder.layer_norm"),
        ("token_embedding", "embed_tokens"),
        ("positional_embedding", "embed_positions.weight"),
    ):
        name = name.replace(old, new)
    return f"model.{name}"


def _write_config(folder: Path, dims: dict[str, int]) -> None:
    begin = dims["n_vocab"] - 1501 - 107  # <|endoftext|>; then the start, 99 languages, six tasks and flags, 1501 times
    config = {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "vocab_size": dims["n_vocab"],
        "num_mel_bins": dims["n_mels"],
        "d_model": dims["n_audio_state"],
        "encoder_layers": dims["n_audio_layer"],
        "encoder_attention_heads": dims["n_audio_head"],
        "encoder_ffn_dim": 4 * dims["n_audio_state"],
        "decoder_layers": dims["n_text_layer"],
        "decoder_attention_heads": dims["n_text_head"],
        "decoder_ffn_dim": 4 * dims["n_text_state"],
        "max_source_positions": dims["n_audio_ctx"],
        "max_target_positions": dims["n_text_ctx"],
        "dropout": 0.0,
        "tie_word_embeddings": True,
        "bos_token_id": begin,
        "eos_token_id": begin,
        "pad_token_id": begin,
        "decoder_start_token_id": begin + 1,
        "dtype": "float32",
    }
    last = dims["n_text_layer"] - 1
    generation = {
        "alignment_heads": [[last, head] for head in range(dims["n_text_head"])],
        "begin_suppress_tokens": [220, begin],
        "suppress_tokens": [],
        "lang_to_id": {f"<|{code}|>": begin + 2 + number for number, code in enumerate(_languages())},
        "is_multilingual": True,
        "max_length": dims["n_text_ctx"],
    }
    features = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": dims["n_mels"], "sampling_rate": 16000, "hop_length": 160}
    features |= {"chunk_length": 30, "n_fft": 400, "nb_max_frames": 3000, "n_samples": 480000, "padding_side": "right", "padding_value": 0.0}
    for name, content in (("config", config), ("generation_config", generation), ("preprocessor_config", features)):
        _write_json(folder / f"{name}.json", content)


def _write_tokenizer(folder: Path) -> None:
    """The tokenizer of the vocabulary that openai-whisper ships, with the special tokens in Whisper's order."""
    import whisper
    from transformers.convert_slow_tokenizer import TikTokenConverter

    flags = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
    special = [f"<|{name}|>" for name in ("endoftext", "startoftranscript", *_languages(), *flags)]
    ranks = Path(whisper.__file__).parent / "assets" / "multilingual.tiktoken"
    TikTokenConverter(str(ranks), pattern=_PIECES, extra_special_tokens=special).converted().save(str(folder / "tokenizer.json"))
    names = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), special[0])
    _write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **names})


def _languages() -> tuple[str, ...]:
    from whisper.tokenizer import LANGUAGES

    return tuple(LANGUAGES)[:99]


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
