#!/usr/bin/env bash
# Installs the servers that the live tests run beside the embedded Postgres: HAProxy, and etcd for a replicated store. The demo
# needs neither. The packages' own services are not used: tests start servers of their own on free ports, and stop them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/packages.sh

missing=()
command -v haproxy >/dev/null || [ -x /usr/sbin/haproxy ] || missing+=(haproxy)
command -v etcd >/dev/null || missing+=(etcd-server)
[ "${#missing[@]}" = 0 ] && exit
may_install || fail "the live tests need ${missing[*]}; install it (on Debian: apt-get install ${missing[*]}) and run this again"
# Only the programs are wanted: no service is to start with them.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi
apt_install "${missing[@]}"
