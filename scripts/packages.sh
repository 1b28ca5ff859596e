# Sourced by the scripts that install what is missing of the system's packages.

say() { printf '%s\n' "setup: $*"; }
fail() {
  printf '%s\n' "setup: $*" >&2
  exit 1
}
may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }
apt_install() {
  say "installing $* with apt-get"
  export DEBIAN_FRONTEND=noninteractive
  # The lists may be older than the mirror, so that packages are named that are gone: refresh them first.
  { apt-get update -q && apt-get install -qy --no-install-recommends "$@"; } >"${TMPDIR:-/tmp}/foreshard-apt.log" 2>&1 ||
    fail "apt-get could not install $*; its log is ${TMPDIR:-/tmp}/foreshard-apt.log"
}
