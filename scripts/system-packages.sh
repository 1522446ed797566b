#!/bin/sh
# Installs what the tests need from the system: Chromium, which draws report.html, and a font for it to draw with.
# Needs root and apt; elsewhere it says what is missing and exits 0, and the tests that need it skip with the reason.
# Safe to run again: it does nothing when all is there.
set -eu

PACKAGES="chromium fonts-dejavu-core"

for browser in chromium chromium-browser google-chrome; do
    if command -v "$browser" >/dev/null 2>&1; then
        exit 0
    fi
done
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "system-packages: the tests of report.html need: $PACKAGES (not installed: that takes root and apt)"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
options="-qq -o DPkg::Lock::Timeout=300"
# shellcheck disable=SC2086  # words are wanted
if ! apt-get $options install -y --no-install-recommends $PACKAGES >/dev/null 2>&1; then
    apt-get $options update && apt-get $options install -y --no-install-recommends $PACKAGES >/dev/null ||
        echo "system-packages: apt could not install: $PACKAGES; the tests that need them are skipped"
fi
