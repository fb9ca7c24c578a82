#!/usr/bin/env bash
# From a fresh clone to a model that translates: environment, training on the built-in corpus, scores, translations.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

make_environment
install_packages quickstart

export TOKENIZERS_PARALLELISM=false
if [ -f runs/quickstart/model.safetensors ]; then
    say "runs/quickstart already holds a trained model (delete the folder to train again)"
elif [ -d runs/quickstart ] && ls -d runs/quickstart/checkpoint-* >/dev/null 2>&1; then
    say "Continuing the run in runs/quickstart"
    .venv/bin/vanilla-transformer train --recipe builtin-fr-en --output_dir runs/quickstart --resume
else
    say "Training a small Transformer, French to English, into runs/quickstart"
    .venv/bin/vanilla-transformer train --recipe builtin-fr-en --output_dir runs/quickstart
fi

say "Scores on sentences not seen in training"
.venv/bin/python scripts/quickstart_report.py --model runs/quickstart

say "Your own sentence"
echo "echo 'je suis étudiant' | .venv/bin/vanilla-transformer translate --model runs/quickstart"

say "A page that shows how the model translates a sentence"
.venv/bin/vanilla-transformer illustrate --model runs/quickstart --text "je suis étudiant" --target "i am a student" \
    --output runs/quickstart.html
