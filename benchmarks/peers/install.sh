#!/bin/sh
# Make the peers' environments, in benchmarks/.peers: each has its own packages, and behind them
# on its path those of the project's environment (torch is 5 GB, and all shall have the same).
set -eu
cd "$(dirname "$0")/.."
mkdir -p .peers
python=$(readlink -f ../.venv/bin/python)
uv=$(readlink -f ../.venv/bin/uv)
site=$(../.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

make_peer() {  # NAME PYTHON PACKAGE...
    name=$1 interpreter=$2
    shift 2
    test -x ".peers/$name/bin/python" || "$uv" venv --quiet --python "$interpreter" ".peers/$name"
    "$uv" pip install --quiet --python ".peers/$name/bin/python" "$@" || {
        echo "$name cannot be installed here; the benchmark reports it as failed" >&2
        return 0
    }
    own=$(".peers/$name/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo "$site" > "$own/project.pth"
}

make_peer mosec "$python" mosec
make_peer litserve "$python" litserve
make_peer ray "$python" 'ray[serve]'
# Its Triton is linked to a shared libpython3.11, as Debian's has (apt-get install python3.11).
debian=/usr/bin/python3.11
if test -x $debian; then
    make_peer pytriton $debian nvidia-pytriton
else
    echo "pytriton needs $debian, which is not there" >&2
fi
