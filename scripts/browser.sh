#!/bin/sh
# Make sure that there is a Chromium for the tests that open the report in a browser; root may install it.
set -eu
for name in "${SLICEMILL_TEST_BROWSER:-}" chromium chromium-browser google-chrome; do
    if [ -n "$name" ] && command -v "$name" >/dev/null; then exit 0; fi
done
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "slicemill: no Chromium found, which the report's tests need." >&2
    echo "Install it (apt-get install chromium), or name one: SLICEMILL_TEST_BROWSER=/path/to/chrome" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --yes --no-install-recommends chromium
