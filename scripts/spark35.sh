#!/usr/bin/env bash
# Run tests on Spark 3.5 (Scala 2.12, ANSI off), which emr-7.13.0 has: scripts/spark35.sh [PYTEST ARGUMENTS].
# Only PySpark differs: a small second environment that falls back on the first one's packages.
set -euo pipefail
cd "$(dirname "$0")/.."

main=${MAIN:-$PWD/.venv}
second=${SECOND:-$PWD/.venv-spark35}
version=3.5.6
if [[ ! -e $second/ready-$version ]]; then
    echo "spark35: PySpark $version in $second, about 340 MB"
    "$main/bin/python" -m venv --clear --without-pip "$second"
    site=$("$second/bin/python" -c 'import site; print(site.getsitepackages()[0])')
    VIRTUAL_ENV=$second "$main/bin/uv" pip install --quiet --no-deps --require-hashes -r requirements/spark35.txt
    # Behind the second environment's own packages, so that its PySpark is the one that is found.
    "$main/bin/python" -c 'import site; print(f"import site; site.addsitedir({site.getsitepackages()[0]!r})")' \
        >"$site/main.pth"
    printf '#!%s\nfrom slicemill.cli import main\nmain()\n' "$second/bin/python" >"$second/bin/slicemill"
    chmod +x "$second/bin/slicemill"
    touch "$second/ready-$version"
fi
"$second/bin/python" - "$version" <<'PYTHON'
import sys

import pyspark

if pyspark.__version__ != sys.argv[1]:
    raise SystemExit(f"spark35: expected PySpark {sys.argv[1]}, found {pyspark.__version__}")
PYTHON
if [[ $# -eq 0 ]]; then set -- tests/test_jobs.py; fi
exec "$second/bin/python" -m pytest "$@"
