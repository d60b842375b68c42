#!/bin/sh
# Get Triton's perf_analyzer into benchmarks/.peers/perf_analyzer. Its wheel is for glibc 2.38; on
# Debian 12, which has 2.36, it runs by the loader and the libraries of Debian 13, unpacked beside it.
set -eu
cd "$(dirname "$0")/.."
folder=$PWD/.peers/perf_analyzer
mkdir -p "$folder"
cd "$folder"
../../../.venv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps \
    --only-binary=:all: --platform manylinux_2_38_x86_64 --dest . 'perf-analyzer==2.60.0'
../../../.venv/bin/python -m zipfile -e perf_analyzer-2.60.0-*.whl .
chmod +x perf_analyzer/bin/perf_analyzer

if ./perf_analyzer/bin/perf_analyzer --version > /dev/null 2>&1; then
    ln -sf perf_analyzer/bin/perf_analyzer run
    exit
fi
# The mirror that this system's own packages come from, with lists of their own.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' | head -n 1)
mkdir -p lists/partial cache/archives/partial
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" > sources.list
apt() {
    apt-get -qq -o Dir::Etc::sourcelist="$folder/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State::lists="$folder/lists" -o Dir::Cache="$folder/cache" \
        -o APT::Sandbox::User= "$@"
}
apt update
apt download libc6 libstdc++6 libgcc-s1 libssl3t64 zlib1g libzstd1
for package in *.deb; do
    dpkg -x "$package" root
done
libraries=$folder/root/usr/lib/x86_64-linux-gnu
cat > run <<END
#!/bin/sh
exec $libraries/ld-linux-x86-64.so.2 --library-path $libraries $folder/perf_analyzer/bin/perf_analyzer "\$@"
END
chmod +x run
