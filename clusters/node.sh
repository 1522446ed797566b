#!/bin/sh
# Prepares one machine of a cluster; every cluster file calls it in setup_commands, on each node and possibly twice.
#
#     sh ~/rungwise/clusters/node.sh [WHERE [EXTRA]]
#
# WHERE: the --mirror of all sweeps, a shared folder or s3://bucket/path. EXTRA: an extra of pyproject.toml that the
# machine needs besides `cluster`: on Google's cloud `gcp`, for the head starts its workers.
#
# The project itself is not installed: it is what `ray up` brings to ~/rungwise, on PYTHONPATH.
#
# The token asks everybody who speaks to Ray who they are: `ray start --head` turns that on by itself when a token is
# there, workers and the ray command do so only when RAY_AUTH_MODE says it.
set -eu

chmod 700 ~/.ray
chmod 600 ~/.ray/auth_token

# Ray runs every command in a shell that reads this file.
keep() {
    grep -qxF "$1" ~/.bashrc 2>/dev/null || printf '%s\n' "$1" >>~/.bashrc
}
keep 'export RAY_AUTH_MODE=token'
keep 'export RAY_USAGE_STATS_ENABLED=0'
keep 'export PYTHONPATH=$HOME/rungwise'
keep 'export RUNGWISE_ADDRESS=auto'
mirror="export RUNGWISE_MIRROR='$(printf %s "${1:-}" | sed "s/'/'\\\\''/g")'"
grep -qxF "$mirror" ~/.bashrc || sed -i '/^export RUNGWISE_MIRROR=/d' ~/.bashrc    # an earlier one's is not to come last
[ -z "${1:-}" ] || keep "$mirror"

# Python, where the image has none of the right version in front, or one that is the system's alone: an environment of
# its own.
usable='
import os, sys, sysconfig
managed = sys.prefix == sys.base_prefix and os.path.exists(sysconfig.get_path("stdlib") + "/EXTERNALLY-MANAGED")
sys.exit(sys.version_info < (3, 11) or managed)'
if ! python -c "$usable" 2>/dev/null; then
    python3 -m venv ~/python
    keep 'export PATH=$HOME/python/bin:$PATH'
    PATH=$HOME/python/bin:$PATH
fi

# The tested versions. pip asks no registry for what is there, but takes seconds to see that it is: once is enough.
cd ~/rungwise
python - cluster ${2:-} >requirements.txt <<'PYTHON'
import sys, tomllib

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = [project["optional-dependencies"][extra] for extra in sys.argv[1:]]
print("#", sys.executable)
print(*project["dependencies"], *sum(extras, []), sep="\n")
PYTHON
cat constraints.txt requirements.txt | cmp -s - .installed || {
    python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements.txt
    cat constraints.txt requirements.txt >.installed
}
