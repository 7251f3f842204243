"""Write models/speaker/voice.safetensors from the weights inside the PyPI wheel of `resemblyzer` (Apache-2.0).

    pip download --no-deps resemblyzer==0.1.4
    python benchmarks/export_speaker_model.py Resemblyzer-0.1.4-py3-none-any.whl

The package itself is not needed: its checkpoint is read with `weights_only`, halved to fp16 and stored with what the front end must know.
"""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save_file

TARGET = Path(__file__).resolve().parents[1] / "models" / "speaker"


def export(wheel: Path, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        raw = archive.read("resemblyzer/pretrained.pt")
        licence = next(archive.read(name) for name in archive.namelist() if name.endswith("dist-info/LICENSE"))
    state = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)["model_state"]
    tensors = {name: value.half().contiguous() for name, value in state.items() if name.startswith(("lstm.", "linear."))}
    target.mkdir(parents=True, exist_ok=True)
    metadata = {"source": "resemblyzer 0.1.4 pretrained.pt", "sha256": hashlib.sha256(raw).hexdigest(), "licence": "Apache-2.0"}
    save_file(tensors, target / "voice.safetensors", metadata=metadata)
    (target / "LICENSE").write_bytes(licence)
    size = sum(value.numel() for value in tensors.values())
    print(f"{size:,} weights to {target / 'voice.safetensors'}; left out: {sorted(set(state) - set(tensors))}")


if __name__ == "__main__":
    export(Path(sys.argv[1]), TARGET)
