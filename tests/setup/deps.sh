#!/bin/bash
# Installs what building and testing need and this machine lacks. Quick, and silent but for one line, when all is there.
#
#   deps.sh            says what is missing, asks when stdin is a terminal, installs it
#   deps.sh --yes      the same without asking
#   deps.sh --check    only lists what is missing; exit status 1 if anything is
#   deps.sh --no-tools the same as without, but for cargo's tools, which only the tests need and which take minutes to build
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${AIRLOCK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/airlock}
qemu_needed=1:10  # older ones work too, but this is the one that is tried; a snapshot belongs to one version anyway

# One package a line, and what for.
packages() {
    sed 's/#.*//; s/[[:space:]]//g; /^$/d' <<'LIST'
        # to build
        libdevmapper-dev          # devicemapper-sys links to it
        pkg-config                # how it finds it
        libclang-dev              # bindgen reads libdevmapper.h
        clang                     # the compiler's own headers for bindgen
        gcc                       # SQLite and zstd are C; the linker
        g++                       # libFuzzer
        make                      # the one entry to everything
        curl                      # S3 requests from shell scripts
        ca-certificates           # whom curl and cargo trust
        git
        python3                   # the VM's runner
        python3-venv              # pip, to fetch the S3 server
        # to test
        qemu-system-x86           # the VM
        qemu-utils                # qemu-img
        mmdebstrap                # the VM's root disk, and root filesystem images
        debian-archive-keyring    # whom mmdebstrap trusts
        e2fsprogs                 # mke2fs -d makes disks without mounting; extraction onto a loop ext4
        busybox-static            # the VM's initramfs
        kmod                      # depmod for the VM's modules
        xz-utils                  # modules are .xz
        zstd                      # the kernel inside vmlinuz; images
        binutils                  # readelf checks that kernel
        util-linux                # flock, setpriv, losetup
        jq                        # JSON output in shell tests
        attr                      # extended attributes in images
        acl                       # ACLs in images
        libcap2-bin               # file capabilities in images
        libarchive-tools          # bsdtar: another writer of archives; another extractor in the bench
        umoci                     # another extractor in the bench
        openssl                   # repeatable noise for images
        thin-provisioning-tools   # thin_check, thin_dump on pools that tests made
        dmsetup                   # what a pool looks like from outside
        procps                    # who still runs, after a test
LIST
}

# cargo's tools: name and version, tried with the toolchain of rust-toolchain.toml.
tools=("cargo-nextest 0.9.143" "cargo-deny 0.20.2")

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -- "$@"; fi; }
say() { printf 'deps: %s\n' "$*"; }
die() { say "$*" >&2; exit 1; }

missing_packages() {
    local installed name version
    # "install ok installed" and no other state; qemu must be new enough too.
    installed=$(dpkg-query -W -f='${db:Status-Status} ${Package} ${Version}\n' 2>/dev/null | awk '$1 == "installed" { print $2, $3 }')
    for name in $(packages); do
        if ! version=$(awk -v n="$name" '$1 == n { print $2; found = 1; exit } END { exit !found }' <<<"$installed"); then
            echo "$name"
        elif [[ $name = qemu-* ]] && ! dpkg --compare-versions "$version" ge "$qemu_needed"; then
            echo "$name"
        fi
    done
}

# Looked for as cargo itself does, in PATH, and in the cache.
missing_tools() {
    local tool name
    for tool in "${tools[@]}"; do
        name=${tool% *}
        command -v "$name" >/dev/null || [ -x "$cache/tools/bin/$name" ] || echo "$name@${tool#* }"
    done
}

missing_rust() {
    local file=$here/../../rust-toolchain.toml wanted=""
    [ ! -e "$file" ] || wanted=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' "$file")
    if ! command -v cargo >/dev/null; then
        echo "Rust ${wanted:-stable} (no cargo in PATH): install rustup from https://rustup.rs, then: rustup toolchain install ${wanted:-stable}"
    elif [ -n "$wanted" ] && command -v rustup >/dev/null && ! rustup toolchain list | grep -q "^$wanted"; then
        echo "Rust $wanted: rustup toolchain install $wanted"
    fi
}

# Debian 12 has QEMU 7.2; its backports have 10. Other releases have a new one of their own.
add_backports() {
    local codename list=/etc/apt/sources.list.d/airlock-backports.sources
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    [ "$codename" = bookworm ] || return 0
    if ! grep -rqsE '^[^#]*bookworm-backports' /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; then
        say "adding $list"
        as_root tee "$list" >/dev/null <<'SOURCE'
Types: deb
URIs: http://deb.debian.org/debian
Suites: bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCE
    fi
}

install_packages() {
    local qemu=() other=() name
    for name; do if [[ $name = qemu-* ]]; then qemu+=("$name"); else other+=("$name"); fi; done
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
    [ ${#qemu[@]} = 0 ] || add_backports
    as_root "${apt[@]}" update
    [ ${#other[@]} = 0 ] || as_root "${apt[@]}" install -y --no-install-recommends "${other[@]}"
    if [ ${#qemu[@]} != 0 ]; then
        # Both at once and from backports by name: one of them alone breaks the other.
        local from=()
        [ "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" != bookworm ] || from=(-t bookworm-backports)
        as_root "${apt[@]}" install -y --no-install-recommends "${from[@]}" qemu-system-x86 qemu-utils
    fi
}

install_tools() {
    local tool build
    mkdir -p "$cache/tools"
    exec 9>"$cache/tools/.lock"
    flock -w 3600 9 || die "another one holds $cache/tools/.lock for an hour"
    for tool in $(missing_tools); do  # again, under the lock: another one may have built it
        say "building $tool, some minutes"
        build=$(mktemp -d "$cache/tools/build-XXXXXX")
        # Its own target folder, so that one set for the project is neither used nor filled.
        CARGO_TARGET_DIR=$build nice cargo install --quiet --locked --root "$cache/tools" "$tool" || { rm -rf "$build"; die "$tool was not built"; }
        rm -rf "$build"
    done
    exec 9>&-
}

mode=${1:-}
case $mode in
    ""|--yes|--check|--no-tools) ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
command -v dpkg-query >/dev/null || die "not a Debian: install by hand what these Debian packages hold: $(packages | tr '\n' ' ')"

mapfile -t lacking < <(missing_packages)
untooled=()
[ "$mode" = --no-tools ] || mapfile -t untooled < <(missing_tools)
rust=$(missing_rust)

if [ "${#lacking[@]}" = 0 ] && [ "${#untooled[@]}" = 0 ] && [ -z "$rust" ]; then
    say "nothing is missing"
    exit 0
fi
[ "${#lacking[@]}" = 0 ] || say "missing Debian packages: ${lacking[*]}"
[ "${#untooled[@]}" = 0 ] || say "missing cargo tools, to be built in $cache/tools: ${untooled[*]}"
[ -z "$rust" ] || say "missing $rust"
[ "$mode" != --check ] || exit 1

if [ "$mode" != --yes ] && [ -t 0 ] && [ $((${#lacking[@]} + ${#untooled[@]})) != 0 ]; then
    read -rp "deps: install this? [y/N] " answer
    [[ $answer = [yY]* ]] || die "nothing was installed"
fi
[ "${#lacking[@]}" = 0 ] || install_packages "${lacking[@]}"
[ -z "$rust" ] || die "Rust is yours to install, as said above; then run this again for cargo's tools"
[ "${#untooled[@]}" = 0 ] || install_tools
say "all is there"
