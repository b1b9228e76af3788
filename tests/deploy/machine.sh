#!/usr/bin/env bash
# Runs inside the machine that tests/deploy/test_machine boots, as root, under its own systemd: from the package to a server that answers,
# and away again. The first step that fails ends it.
set -euo pipefail
trap 'status=$?; ((status == 0)) || { echo "FAILED: line $LINENO: $BASH_COMMAND"; journalctl --no-pager --unit "twotower-*" | tail -n 40; }' EXIT

step() { printf '==> %s\n' "$*"; }
expect() {
    local wanted=$1 got
    shift
    got=$("$@") || true
    [[ $got == "$wanted" ]] || {
        echo "$*: expected '$wanted', got '$got'"
        return 1
    }
}
# Status and body of an address of the server.
get() {
    exec 3<>/dev/tcp/127.0.0.1/8080
    printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$1" >&3
    cat <&3
    exec 3>&-
}
answers() {
    local _
    for _ in $(seq 60); do
        if get "$1" 2>/dev/null | grep -q '^HTTP/1.1 200'; then return 0; fi
        sleep 0.5
    done
    echo "$1 does not answer 200"
    get "$1"
    return 1
}

step install
dpkg --install /test/twotower.deb
expect twotower id --user --name twotower
expect '640 root twotower' stat --format '%a %U %G' /etc/twotower/env
expect '600 root root' stat --format '%a %U %G' /etc/twotower/serve.env
expect '750 twotower twotower' stat --format '%a %U %G' /var/lib/twotower
for unit in serve.service update.timer retrain.timer maintain.timer backup.timer watch.timer; do
    expect disabled systemctl is-enabled "twotower-$unit"
done

step 'a database and a model, as the services would make them'
twotower-admin migrate
twotower-admin demo --no-serve --videos 300 --users 200 --likes 6000 --epochs 1 >/dev/null
expect twotower stat --format %U /var/lib/twotower/twotower.db

step 'the server, with its secret as a credential'
mkdir -p /etc/systemd/system/twotower-serve.service.d
cp /usr/share/doc/twotower/examples/systemd/serve-credentials.conf /etc/systemd/system/twotower-serve.service.d/credentials.conf
(umask 077 && head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >/etc/twotower/jwt-secret)
echo TWOTOWER_LOG_FILE=/var/log/twotower/twotower.log >>/etc/twotower/env
# The server's own takes the place of the jobs', which it cannot read.
echo WHOSE=jobs >>/etc/twotower/env
echo WHOSE=server >>/etc/twotower/serve.env
systemctl daemon-reload
systemctl enable --now twotower-serve.service
answers /healthz
answers /readyz
process=$(systemctl show --property=MainPID --value twotower-serve.service)
expect twotower stat --format %U "/proc/$process"
expect 'WHOSE=server' bash -c "tr '\0' '\n' </proc/$process/environ | grep ^WHOSE="
for name in env serve.env; do
    test ! -s "/proc/$process/root/etc/twotower/$name"
done
expect 'NoNewPrivs:	1' grep NoNewPrivs "/proc/$process/status"
expect 'CapEff:	0000000000000000' grep CapEff "/proc/$process/status"
expect 'Seccomp:	2' grep 'Seccomp:' "/proc/$process/status"

step 'it comes back when it is killed'
systemctl kill --signal=KILL twotower-serve.service
sleep 1
answers /readyz
[[ $(systemctl show --property=MainPID --value twotower-serve.service) != "$process" ]]

step 'its log file is renamed'
grep -q /healthz /var/log/twotower/twotower.log
logrotate --force /etc/logrotate.d/twotower
answers /healthz
for _ in $(seq 20); do grep -q /healthz /var/log/twotower/twotower.log && break || sleep 0.2; done
grep -q /healthz /var/log/twotower/twotower.log
test -s /var/log/twotower/twotower.log.1

step 'told to reload where there is no log file'
sed -i '/^TWOTOWER_LOG_FILE=/d' /etc/twotower/env
systemctl restart twotower-serve.service
answers /readyz
process=$(systemctl show --property=MainPID --value twotower-serve.service)
systemctl reload twotower-serve.service
answers /healthz
expect "$process" systemctl show --property=MainPID --value twotower-serve.service

step 'jobs under their units'
for job in update maintain backup; do
    systemctl start "twotower-$job.service"
    expect success systemctl show --property=Result --value "twotower-$job.service"
done
# Whether the gate likes a model of so few data does not matter here.
systemctl start twotower-retrain.service || true
status=$(systemctl show --property=ExecMainStatus --value twotower-retrain.service)
[[ $status == 0 || $status == 5 ]]
systemctl start twotower-watch.service
twotower-admin doctor --only server-ready

step 'a job as cron starts it'
(cd / && runuser -u twotower -- env -i PATH=/usr/bin:/bin HOME=/var/lib/twotower /usr/share/twotower/cron/run_batch_update.sh)

step 'timers'
systemctl enable --now twotower-{update,retrain,maintain,backup,watch}.timer
expect 5 bash -c "systemctl list-timers --no-legend 'twotower-*' | wc -l"

step 'the same package again'
echo '# kept' >>/etc/twotower/twotower.toml
dpkg --install /test/twotower.deb
grep -q '^# kept' /etc/twotower/twotower.toml
expect active systemctl is-active twotower-serve.service

step 'stopped, removed, purged'
systemctl stop twotower-serve.service
expect success systemctl show --property=Result --value twotower-serve.service
mkdir -p /var/lib/twotower/backups/kept
dpkg --remove twotower
test -e /etc/twotower/env
dpkg --purge twotower
test ! -e /etc/twotower/env
test ! -e /etc/twotower/serve.env
test ! -e /var/lib/twotower/twotower.db
test -d /var/lib/twotower/backups/kept
dpkg --install /test/twotower.deb
rm -r /var/lib/twotower/backups
dpkg --purge twotower
test ! -e /var/lib/twotower
expect '' getent passwd twotower
step finished
