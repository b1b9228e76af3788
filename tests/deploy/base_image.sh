# shellcheck shell=bash
# Sourced: the small Debian with systemd that machines and images are tried on, made once.
base=target/tools/machine.tar

make_base() {
    [[ $(id -u) == 0 ]] || {
        echo "$0: only root may do this" >&2
        exit 1
    }
    local program
    for program in mmdebstrap "$@"; do
        command -v "$program" >/dev/null || {
            echo "$0: $program is missing; on Debian: apt-get install mmdebstrap systemd-container podman runc" >&2
            exit 1
        }
    done
    if [[ ! -e $base ]]; then
        mkdir -p target/tools
        mmdebstrap --quiet --variant=minbase --include=systemd,systemd-sysv,dbus,logrotate bookworm "$base.new"
        mv "$base.new" "$base"
    fi
}
