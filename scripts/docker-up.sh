#!/usr/bin/env bash
# Bring a Docker engine up on a Debian machine without systemd, or say in one sentence why not.
#
#   scripts/docker-up.sh          install what is missing (as root), start dockerd if no engine answers, wait for it
#   scripts/docker-up.sh --stop   end the daemon that this script started, and no other
#
# Idempotent: an engine that answers is left as it is. DOCKER_UP_STATE names the folder of the log and the pid file.
set -euo pipefail
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

state=${DOCKER_UP_STATE:-/var/tmp/repodojo-docker}
log=$state/dockerd.log
pidfile=$state/dockerd.started
wait_s=${DOCKER_UP_WAIT:-60}

say() { printf 'docker-up: %s\n' "$*"; }
die() { printf 'docker-up: %s\n' "$*" >&2; exit 1; }

answers() { command -v docker >/dev/null && timeout 10 docker version --format '{{.Server.Version}}' 2>/dev/null; }

# The pid and its start time: a recycled pid never matches.
started_at() { sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

stop() {
    [ -f "$pidfile" ] || { say "no daemon of ours is recorded in $pidfile"; return 0; }
    read -r pid at <"$pidfile"
    if [ -n "$at" ] && [ "$(started_at "$pid")" = "$at" ]; then
        kill "$pid"
        # It ends its containers first, which takes as long as their slowest.
        for _ in $(seq 1 400); do [ "$(started_at "$pid")" = "$at" ] || break; sleep 0.1; done
        say "stopped dockerd (pid $pid)"
    fi
    rm -f "$pidfile"
}

install_packages() {
    local missing=()
    command -v dockerd >/dev/null || missing+=(docker.io)
    command -v iptables >/dev/null || missing+=(iptables)
    command -v debootstrap >/dev/null || missing+=(debootstrap)
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || die "missing ${missing[*]}, and installing them needs root: install them, then run this again."
    command -v apt-get >/dev/null || die "missing ${missing[*]}, and this is no Debian system: install them by hand, then run this again."
    say "installing ${missing[*]}"
    mkdir -p "$state"
    # RUNLEVEL=1 keeps the package from starting a service: the daemon below is the only one, and ours to end.
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}"; } \
        >"$state/apt.log" 2>&1 || die "apt-get could not install ${missing[*]}: see $state/apt.log"
}

start() {
    [ "$(id -u)" = 0 ] || die "no Docker engine answers, and starting dockerd needs root."
    mkdir -p "$state"
    setsid nohup dockerd --log-level warn >"$log" 2>&1 </dev/null &
    local pid=$!
    printf '%s %s\n' "$pid" "$(started_at "$pid")" >"$pidfile"
    local until=$((SECONDS + wait_s))
    while [ $SECONDS -lt $until ]; do
        if version=$(answers); then say "engine $version answers (pid $pid, log $log)"; return 0; fi
        kill -0 "$pid" 2>/dev/null || { tail -n 5 "$log" >&2; rm -f "$pidfile"; die "dockerd ended at start: its log is $log"; }
        sleep 0.5
    done
    tail -n 5 "$log" >&2
    stop
    die "dockerd did not answer within $wait_s s: its log is $log"
}

case ${1:-} in
    --stop) stop ;;
    "")
        if version=$(answers); then say "engine $version already answers"; else install_packages; start; fi
        # The image needs debootstrap even where an engine was already there.
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then install_packages; fi
        ;;
    *) die "unknown argument $1 (none, or --stop)" ;;
esac
