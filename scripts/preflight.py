"""Check this machine before anything is downloaded: Python, Java, disk space. One line on the first fault.

Runs under any Python, old ones too, so that a wrong one can be named.
"""

import glob
import os
import re
import shutil
import subprocess
import sys

PYTHONS = ((3, 11), (3, 12), (3, 13))
JAVAS = (17, 21)
FRESH_BYTES = 8 * 10**9
# Packages that uv fetched before are linked, not copied, where its cache lies on the same disk.
LINKED_BYTES = 2 * 10**9
READY_BYTES = 10**9
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
READY = os.path.join(ROOT, ".venv", "stamps", "packages")


def wrong_python():
    """What is wrong with this interpreter, or None."""
    if sys.version_info[:2] not in PYTHONS:
        return (
            "Python %d.%d found (%s); expected 3.11, 3.12 or 3.13. Install one, or name it: "
            "make PYTHON=/path/to/python3.11" % (sys.version_info[:2] + (sys.executable,))
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return "Python %s has no venv and ensurepip; install its venv package (python%d.%d-venv)." % (
            (sys.executable,) + sys.version_info[:2]
        )
    return None


def wrong_java():
    """What is wrong with Java, or None."""
    advice = "Install a JDK or JRE of version 17 or 21 and set JAVA_HOME to its folder."
    home = os.environ.get("JAVA_HOME")
    java = os.path.join(home, "bin", "java") if home else shutil.which("java")
    if not java or not os.access(java, os.X_OK):
        place = "JAVA_HOME (%s)" % home if home else "JAVA_HOME or on the PATH"
        return "no Java found in %s; expected 17 or 21. %s" % (place, advice)
    try:
        asked = subprocess.Popen([java, "-version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said = asked.communicate()[0].decode("utf-8", "replace")
    except OSError as error:
        return "Java does not start (%s: %s). %s" % (java, error, advice)
    version = re.search(r'version "(?:1\.)?(\d+)', said)
    if version is None:
        return "Java does not tell its version (%s); expected 17 or 21. %s" % (java, advice)
    if int(version.group(1)) not in JAVAS:
        return "Java %s found (%s); expected 17 or 21. %s" % (version.group(1), java, advice)
    return None


def linkable():
    """Whether uv's cache holds the largest package and can be linked to from here."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    cache = os.environ.get("UV_CACHE_DIR") or os.path.join(cache, "uv")
    with open(os.path.join(ROOT, "requirements", "all.txt")) as pins:
        version = re.search(r"^torch==([^ ;]+)", pins.read(), re.MULTILINE).group(1)
    unpacked = glob.glob(os.path.join(cache, "archive-*", "*", "torch-%s.dist-info" % version))
    return any(os.stat(folder).st_dev == os.stat(ROOT).st_dev for folder in unpacked)


def wrong_disk():
    """What is wrong with the disk, or None."""
    needed = READY_BYTES if os.path.exists(READY) else LINKED_BYTES if linkable() else FRESH_BYTES
    free = shutil.disk_usage(ROOT).free
    if free >= needed:
        return None
    return "%.1f GB free on the disk of %s; expected %.0f GB. Make room, or move the folder." % (
        free / 1e9,
        ROOT,
        needed / 1e9,
    )


def main():
    """Say what is wrong in one line and return the exit code."""
    for check in (wrong_python, wrong_java, wrong_disk):
        fault = check()
        if fault:
            sys.stderr.write("slicemill: " + fault + "\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
