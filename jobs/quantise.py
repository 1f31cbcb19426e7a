"""spark-submit jobs/quantise.py --help"""

import sys

from slicemill.cli import run_verb

if __name__ == "__main__":
    sys.exit(run_verb("quantise"))
