#!/usr/bin/env bash
# Fetches the published weights into this folder: all 14, or those named (`./download_checkpoint.sh s012 s02`).
# Interrupted downloads are resumed by running it again.
set -euo pipefail
folder="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
if [ "$#" -eq 0 ]; then
    set -- --all
fi
exec jointformer weights download --to "$folder" "$@"
