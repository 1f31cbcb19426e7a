#!/usr/bin/env bash
# Bootstrap action, on every node: unpack the packed environment and let /opt/slicemill point at it.
# Argument: the archive's s3:// URI, whose name ends in its SHA-256. Can be run again.
set -euo pipefail

archive=${1:?the s3:// URI of a packed environment is missing}
# Where it is unpacked: the data volume, since the root volume is small.
store=${SLICEMILL_STORE:-/mnt/slicemill}
link=${SLICEMILL_LINK:-/opt/slicemill}

name=${archive##*/}
sum=${name%.tar.gz}
sum=${sum##*-}
if [[ $name != *.tar.gz || ! $sum =~ ^[0-9a-f]{64}$ ]]; then
    echo "environment.sh: $name does not end in -<SHA-256>.tar.gz" >&2
    exit 2
fi

as_root() {
    if [[ $EUID -eq 0 ]]; then "$@"; else sudo "$@"; fi
}

home=$store/$sum
as_root mkdir -p "$store"
as_root chown "$(id -u):$(id -g)" "$store"
if [[ ! -e $home/.unpacked ]]; then
    draft=$(mktemp -d "$store/draft.XXXXXX")
    trap 'rm -rf "$draft"' EXIT
    aws s3 cp --only-show-errors "$archive" "$draft/environment.tar.gz"
    echo "$sum  $draft/environment.tar.gz" | sha256sum --check --quiet
    mkdir "$draft/environment"
    tar -xzf "$draft/environment.tar.gz" -C "$draft/environment"
    chmod -R a+rX "$draft/environment"
    # Fails here, not in a job, if the node lacks the interpreter that the archive was made with, or has other
    # processors than the machine that made it.
    "$draft/environment/bin/python" -c 'import slicemill, boto3, numpy, pyarrow, torch'
    touch "$draft/environment/.unpacked"
    rm -rf "$home"
    mv "$draft/environment" "$home"
fi
as_root ln -sfn "$home" "$link"
echo "environment.sh: $link is $("$link/bin/python" -c 'import slicemill; print("slicemill", slicemill.__version__)')"
