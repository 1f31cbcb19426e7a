#!/usr/bin/env bash
# Prints a container's GPUs as Spark's resource discovery reads them. YARN hides all GPUs but the container's own,
# so what nvidia-smi lists is what the executor has.
set -euo pipefail
addresses=$(nvidia-smi --query-gpu=index --format=csv,noheader)
if [[ -z $addresses ]]; then
    echo "discover_gpus.sh: nvidia-smi lists no GPU" >&2
    exit 1
fi
printf '{"name": "gpu", "addresses": ["%s"]}\n' "$(sed ':a;N;$!ba;s/\n/", "/g' <<<"$addresses")"
