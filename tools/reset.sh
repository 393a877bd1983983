#!/bin/sh
# Put the notebooks, the learner's progress and predictions back to the start. Nothing is thrown away:
# notebooks that were changed, and the others, are kept in .lab/before-reset/<when>.
set -eu
cd "$(dirname "$0")/.."

# Not just any checkout: a course that was unpacked inside somebody's repository is not in it.
git ls-files --error-unmatch -- 'notebooks/*.ipynb' >/dev/null 2>&1 &&
    git rev-parse --verify --quiet HEAD >/dev/null || {
    echo "reset: this is not a git checkout of the course, so there is no start to go back to:" \
        "unpack it anew (in Docker: docker compose down --volumes)." >&2
    exit 1
}
kept=.lab/before-reset/$(date +%Y-%m-%d-%H%M%S)
while [ -e "$kept" ]; do kept=$kept+; done
keep() {
    mkdir -p "$kept"
    cp "$1" "$kept"
}

# What the learner has added, staged or not, has no start: it stays where it is.
git diff --name-only --relative --no-renames --diff-filter=a HEAD -- 'notebooks/*.ipynb' | while IFS= read -r path; do
    [ ! -f "$path" ] || keep "$path"
    git checkout --quiet HEAD -- "$path"
    echo "reset: $path"
done
for path in notebooks/.progress.json notebooks/predictions.json; do
    if [ -f "$path" ]; then
        keep "$path"
        rm "$path"
        echo "reset: $path"
    fi
done
rm -rf notebooks/.ipynb_checkpoints notebooks/rise.css notebooks/course.md .lab/workspaces .lab/screenshots
[ ! -d "$kept" ] || echo "reset: what was there is in $kept"
