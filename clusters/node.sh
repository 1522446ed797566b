#!/bin/sh
# Prepares one machine of a cluster; every cluster file calls it in setup_commands, on each node and possibly twice.
#
#     sh ~/rungwise/clusters/node.sh [WHERE]      WHERE: the --mirror of all sweeps, a shared folder or s3://bucket/path
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
[ -z "${1:-}" ] || keep "export RUNGWISE_MIRROR=$1"

# Python, where the image has none of the right version in front: an environment of its own.
if ! python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python3 -m venv ~/python
    keep 'export PATH=$HOME/python/bin:$PATH'
    PATH=$HOME/python/bin:$PATH
fi

# The tested versions. pip asks no registry for what is there, but takes seconds to see that it is: once is enough.
cd ~/rungwise
python - >requirements.txt <<'PYTHON'
import sys, tomllib

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
print("#", sys.executable)
print(*project["dependencies"], *project["optional-dependencies"]["cluster"], sep="\n")
PYTHON
cat constraints.txt requirements.txt | cmp -s - .installed || {
    python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements.txt
    cat constraints.txt requirements.txt >.installed
}
