#!/bin/sh
# Put the notebooks and the learner's progress back to the start. Nothing is thrown away: notebooks
# that were changed, and the progress, are kept in .lab/before-reset/<when>.
set -eu
cd "$(dirname "$0")/.."

git rev-parse --verify --quiet HEAD >/dev/null 2>&1 || {
    echo "reset: this is not a git checkout, so there is no start to go back to; unpack the course anew." >&2
    exit 1
}
kept=.lab/before-reset/$(date +%Y-%m-%d-%H%M%S)
keep() {
    mkdir -p "$kept"
    cp "$1" "$kept"
}

git diff --name-only HEAD -- 'notebooks/*.ipynb' | while IFS= read -r path; do
    [ ! -f "$path" ] || keep "$path"
    git checkout --quiet HEAD -- "$path"
    echo "reset: $path"
done
if [ -f notebooks/.progress.json ]; then
    keep notebooks/.progress.json
    rm notebooks/.progress.json
    echo "reset: progress"
fi
rm -rf notebooks/.ipynb_checkpoints .lab/workspaces .lab/screenshots
[ ! -d "$kept" ] || echo "reset: what was there is in $kept"
