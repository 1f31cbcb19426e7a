#!/usr/bin/env bash
# Build an archive with everything that a node needs but Python itself and PySpark, which the cluster brings.
#
#   build_env.sh cpu|gpu|registry OUT_FOLDER
#
# cpu: torch's CPU build. gpu: its CUDA 12.6 build, which the driver of EMR's GPU nodes runs. registry: the CUDA
# build of the default package index on CPU nodes, for machines that reach no other index.
# PYTHON must have the path that it has on the nodes: the archive holds a link to it, not the interpreter.
# GZIP_LEVEL: 1 (fast) to 9 (small).
set -euo pipefail

kind=${1:?cpu, gpu or registry}
out=${2:?folder for the archive}
python=${PYTHON:-/usr/bin/python3.11}
level=${GZIP_LEVEL:-6}
root=$(cd "$(dirname "$0")/../.." && pwd)

case $kind in
    cpu) backend=(--torch-backend cpu) ;;
    gpu) backend=(--torch-backend cu126) ;;
    registry) backend=(--constraints "$root/requirements/all.txt") ;;
    *)
        echo "build_env.sh: expected cpu, gpu or registry, found $kind" >&2
        exit 2
        ;;
esac

mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d "$out/draft.XXXXXX")
trap 'rm -rf "$work"' EXIT
env=$work/environment

"$python" -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$root/requirements/uv.txt"
"$python" -m venv --without-pip "$env"
install_into_env() { "$work/tools/bin/uv" pip install --quiet --python "$env/bin/python" "$@"; }

install_into_env --no-deps --require-hashes -r "$root/requirements/emr.txt"
# These two have no hash that holds for every build of theirs; the archive's own sum covers what was taken.
mapfile -t torch < <(grep -oE '^(torch|torchvision)==[0-9.]+' "$root/requirements/all.txt")
install_into_env "${backend[@]}" "${torch[@]}"
# A copy, so that building leaves nothing in the source tree.
mkdir "$work/source"
cp -R "$root/pyproject.toml" "$root/README.md" "$root/LICENSE" "$root/src" "$work/source"
install_into_env --no-deps --build-constraints "$root/requirements/all.txt" "$work/source"
cp -R "$root/jobs" "$env/jobs"

# Headers, static libraries and test suites are read by no job.
site=$env/lib/python3.11/site-packages
rm -rf "$site"/torch/{include,test} "$site"/torch/share/cmake "$site"/pyarrow/include
find "$site" -name '*.a' -delete
if [[ $kind == registry ]]; then
    # What a CUDA build loads on GPUs only. The rest of CUDA, 1.9 GB, torch is linked with: it does not start without.
    "$work/tools/bin/uv" pip uninstall --quiet --python "$env/bin/python" triton
    rm -f "$site"/nvidia/cudnn/lib/libcudnn_*
fi
find "$site" -type d \( -name tests -o -name __pycache__ \) -path '*/site-packages/*' \
    \( -path '*/numpy/*' -o -path '*/pandas/*' -o -path '*/pyarrow/*' -o -path '*/networkx/*' \
    -o -path '*/sympy/*' -o -name __pycache__ \) -prune -exec rm -rf {} +
# Scripts name the folder that they were installed in; jobs and modules need none.
find "$env/bin" -mindepth 1 ! -name 'python*' -delete
# By which an executor finds its GPUs, in the unpacked archive as on a prepared node.
install -m 755 "$root/src/slicemill/emr/requests/discover_gpus.sh" "$env/bin/discover_gpus.sh"

PYTHONDONTWRITEBYTECODE=1 "$env/bin/python" - >"$env/environment.json" <<'PYTHON'
import importlib.metadata, json, sys

import torch

import slicemill

try:
    import pyspark
except ImportError:
    pass
else:
    raise SystemExit(f"build_env.sh: pyspark is in the environment, from {pyspark.__file__}")
packages = {one.metadata["Name"]: one.version for one in importlib.metadata.distributions()}
json.dump(
    {
        "slicemill": slicemill.__version__,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "packages": dict(sorted(packages.items())),
    },
    sys.stdout,
    indent=2,
)
PYTHON

# Jobs may not write where the archive lies, and each process would compile all that it imports: seconds of torch.
# By the source's hash, which nobody checks again, since the times below are not the source's. What does not
# compile, such as templates, is imported by nobody. One process and one seed: the same bytes each time.
PYTHONHASHSEED=0 "$env/bin/python" -m compileall -qq -j 1 --invalidation-mode unchecked-hash \
    -s "$env" -p /opt/slicemill "$env/lib" "$env/jobs" || true

# The same packages give the same bytes: sorted names, no times, no owners.
tar --create --directory "$env" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner . |
    gzip -n "-$level" >"$work/environment.tar.gz"
sum=$(sha256sum "$work/environment.tar.gz")
sum=${sum%% *}
version=$("$env/bin/python" -c 'import slicemill; print(slicemill.__version__)')
# As EC2 names processors. A node of another kind refuses the archive before it is sent.
architecture=$(uname -m)
[[ $architecture == aarch64 ]] && architecture=arm64
archive=$out/slicemill-$version-$kind-$architecture-$sum.tar.gz
mv "$work/environment.tar.gz" "$archive"
echo "build_env.sh: $(du -sh --apparent-size "$env" | cut -f1) packed into $(du -h --apparent-size "$archive" | cut -f1)" >&2
echo "$archive"
