#!/bin/sh
# Installs what the tests need from the system: Chromium, which draws report.html, and a font for it to draw with; tmux,
# which draws the live view; and what makes machines of namespaces (tests/cluster): ip, unshare, rsync, an SSH client
# and server.
# Needs root and apt; elsewhere it says what is missing and exits 0, and the tests that need it skip with the reason.
# Arguments are commands to be installed besides, each from the package of its name (stress-ng; slurmctld, slurmd).
# Safe to run again: it does nothing when all is there.
set -eu

missing=""
command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 ||
    command -v google-chrome >/dev/null 2>&1 || missing="chromium fonts-dejavu-core"
[ -x /usr/sbin/sshd ] && command -v ip >/dev/null 2>&1 && command -v rsync >/dev/null 2>&1 &&
    command -v ssh >/dev/null 2>&1 && command -v unshare >/dev/null 2>&1 ||
    missing="$missing iproute2 util-linux openssh-server openssh-client rsync"
for tool in tmux "$@"; do
    command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "system-packages: some tests need: $missing (not installed: that takes root and apt)"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
options="-qq -o DPkg::Lock::Timeout=300"
# shellcheck disable=SC2086  # words are wanted
if ! apt-get $options install -y --no-install-recommends $missing >/dev/null 2>&1; then
    apt-get $options update && apt-get $options install -y --no-install-recommends $missing >/dev/null ||
        echo "system-packages: apt could not install: $missing; the tests that need them are skipped"
fi
