#!/bin/sh
# Find a Python that runs and let it check the machine: preflight.sh [--which] [PYTHON]
# With --which, print the interpreter instead.
here=$(dirname "$0")
which=
if [ "$1" = --which ]; then which=1; shift; fi

version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

found=
if [ -n "$1" ]; then
    if [ -z "$(version "$1")" ]; then
        echo "slicemill: PYTHON=$1 does not run; expected the path of Python 3.11, 3.12 or 3.13." >&2
        exit 1
    fi
    found=$1
else
    for python in python3.11 python3.12 python3.13 python3 python; do
        case $(version "$python") in
            3.11 | 3.12 | 3.13) found=$python; break ;;
            ?*) : "${found:=$python}" ;;
        esac
    done
fi
if [ -z "$found" ]; then
    echo "slicemill: no Python found; expected Python 3.11, 3.12 or 3.13. Install one, or name it: make PYTHON=/path/to/python3.11" >&2
    exit 1
fi
if [ -n "$which" ]; then echo "$found"; else exec "$found" "$here/preflight.py"; fi
