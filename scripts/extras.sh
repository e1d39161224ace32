#!/usr/bin/env bash
# usage: scripts/extras.sh PYTHON FOLDER: an environment in FOLDER that sees all that PYTHON's has, with the optional
# packages beside it, so that the run's own environment stays as light as it is.
set -euo pipefail

python=$1 folder=$2
key=$(cat pyproject.toml constraints.txt "$0" | sha256sum | cut -c1-16)
[ -e "$folder/.installed-$key" ] && exit 0

echo "==> optional packages into $folder (2 to 4 minutes)"
"$python" -m venv --clear "$folder"
site='import sysconfig; print(sysconfig.get_path("purelib"))'
below=$("$python" -c "$site")
# A line of a .pth file that begins with "import" is run: the editable install below is found through its own .pth file.
echo "import site; site.addsitedir('$below')" >"$("$folder/bin/python" -c "$site")/below.pth"
export DS_BUILD_OPS=0 # nothing of DeepSpeed is compiled
pip() { "$folder/bin/python" -m pip install -q --disable-pip-version-check -c constraints.txt "$@"; }
pip -e '.[deepspeed,watch]'
# Alone: what these two ask for beside what is used of them (litellm, datasets) pins older releases of packages below.
pip --no-deps mini-swe-agent==2.4.6 python-dotenv platformdirs
"$folder/bin/python" -c 'from benchmarks.speed.yardstick import NEEDS; print(*NEEDS, sep="\n")' >"$folder/trl.txt"
pip --no-deps -r "$folder/trl.txt"
touch "$folder/.installed-$key"
