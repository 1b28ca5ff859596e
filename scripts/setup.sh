#!/usr/bin/env bash
# Makes what the project runs on, whatever of it is missing: the virtual environment, Java, and Delta's jars; with the names
# of extras (ml, stats) their packages too.
# Quick when all is there. Package indexes are the ones that pip is configured for.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv="$PWD/.venv"
log="$venv/setup.log"

. scripts/packages.sh

find_python() {
  local candidate
  for candidate in "${PYTHON:-python3}" python3.11 python3.12 python3.13 python3; do
    if command -v "$candidate" >/dev/null &&
      "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  fail "Python 3.11, 3.12 or 3.13 is needed and none is on the PATH; install one and run make setup again"
}

make_environment() {
  [ -x "$venv/bin/python" ] && "$venv/bin/python" -m pip --version >/dev/null 2>&1 && return
  local python version
  python=$(find_python)
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    may_install || fail "Python's venv module is missing; install the package python$version-venv and run make setup again"
    apt_install "python$version-venv"
  fi
  say "making .venv with $("$python" --version)"
  "$python" -m venv --clear "$venv"
}

# uv does not read pip's configuration: hand over the settings that decide where packages come from.
pip_setting() { # name
  local variable value scope
  variable="PIP_$(printf '%s' "$1" | tr 'a-z-' 'A-Z_')"
  value="${!variable:-}"
  for scope in global install; do
    [ -n "$value" ] || value=$("$venv/bin/python" -m pip config get "$scope.$1" 2>/dev/null || true)
  done
  printf '%s' "$value"
}
configure_uv() {
  local value
  value=$(pip_setting index-url) && [ -z "$value" ] || export UV_DEFAULT_INDEX="$value"
  value=$(pip_setting extra-index-url) && [ -z "$value" ] || export UV_INDEX="$value"
  value=$(pip_setting find-links) && [ -z "$value" ] || export UV_FIND_LINKS="$value"
  value=$(pip_setting cert) && [ -z "$value" ] || export SSL_CERT_FILE="$value"
  export UV_HTTP_TIMEOUT=180 UV_LINK_MODE=copy
}

install_requirements() {
  local wanted stamp="$venv/requirements.sha256"
  wanted=$(cat requirements.txt pyproject.toml | sha256sum)
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && return
  say "installing the pinned Python packages (about a minute)"
  "$venv/bin/python" -m pip install -q --disable-pip-version-check uv >"$log" 2>&1 ||
    fail "pip could not install uv; its log is $log"
  configure_uv
  if ! "$venv/bin/uv" pip install -q --python "$venv/bin/python" -r requirements.txt >>"$log" 2>&1; then
    say "uv did not reach all packages; pip, which takes longer, tries"
    "$venv/bin/python" -m pip install -q -r requirements.txt >>"$log" 2>&1 ||
      fail "the pinned packages could not be installed; the log is $log"
  fi
  "$venv/bin/python" -m pip install -q --no-deps --no-build-isolation -e . >>"$log" 2>&1 ||
    "$venv/bin/python" -m pip install -q --no-deps -e . >>"$log" 2>&1 ||
    fail "the package foreshard could not be installed; the log is $log"
  printf '%s\n' "$wanted" >"$stamp"
}

install_extras() { # names of extras in pyproject.toml
  local wanted stamp="$venv/extras.sha256" extra flags=()
  [ $# -gt 0 ] || return 0
  wanted=$(cat requirements.txt pyproject.toml <(printf '%s\n' "$@") | sha256sum)
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && return
  say "installing the extras $* (half a minute)"
  configure_uv
  for extra in "$@"; do flags+=(--extra "$extra"); done
  if ! "$venv/bin/uv" pip install -q --python "$venv/bin/python" -c requirements.txt -r pyproject.toml "${flags[@]}" >>"$log" 2>&1; then
    extra=$(IFS=,; printf '%s' "$*")
    "$venv/bin/python" -m pip install -q --no-build-isolation -c requirements.txt -e ".[$extra]" >>"$log" 2>&1 ||
      fail "the extras $* could not be installed; the log is $log"
  fi
  printf '%s\n' "$wanted" >"$stamp"
}

java_works() { # Spark needs Java 17 or later with the incubator's vector module.
  local java="java"
  [ -z "${JAVA_HOME:-}" ] || java="$JAVA_HOME/bin/java"
  command -v "$java" >/dev/null || return 1
  local version
  version=$("$java" -version 2>&1 | sed -nE 's/.*version "([0-9]+).*/\1/p' | head -1)
  [ "${version:-0}" -ge 17 ] && "$java" --list-modules 2>/dev/null | grep -q '^jdk.incubator.vector'
}
install_java() {
  java_works && return
  [ -z "${JAVA_HOME:-}" ] || fail "JAVA_HOME is $JAVA_HOME, which is no full Java 17 or later; point it at one or unset it"
  may_install || fail "Java 17 or later is needed; install it (on Debian: apt-get install openjdk-17-jre-headless) and run make setup again"
  apt_install openjdk-17-jre-headless
  java_works || fail "Java was installed but does not run; see java -version"
}

# Spark's own jars cover Delta's other dependencies, so only Delta's and Unity Catalog's are kept.
fetch_jars() {
  local folder="$venv/share/foreshard/jars" delta spark
  delta=$("$venv/bin/python" -c 'from importlib.metadata import version; print(version("delta-spark"))')
  spark=$("$venv/bin/python" -c 'from importlib.metadata import version; print(".".join(version("pyspark").split(".")[:2]))')
  [ -f "$folder/io.delta_delta-spark_${spark}_2.13-$delta.jar" ] && return
  say "resolving Delta's jars (half a minute)"
  scratch=$(mktemp -d) # not local: the trap runs after this function
  trap 'rm -rf "$scratch"' EXIT
  : >"$scratch/nothing.py"
  PYSPARK_PYTHON="$venv/bin/python" SPARK_LOCAL_IP=127.0.0.1 "$venv/bin/spark-submit" --master 'local[1]' \
    --conf spark.ui.enabled=false --conf "spark.jars.ivy=$scratch/ivy" \
    --packages "io.delta:delta-spark_${spark}_2.13:$delta" "$scratch/nothing.py" >>"$log" 2>&1 ||
    fail "Delta's jars could not be resolved from Maven Central; the log is $log"
  mkdir -p "$scratch/jars" "$(dirname "$folder")"
  cp "$scratch"/ivy/jars/io.delta_*.jar "$scratch"/ivy/jars/io.unitycatalog_*.jar "$scratch/jars/"
  rm -rf "$folder"
  mv "$scratch/jars" "$folder"
}

# Every job is a JVM of its own: with the classes at hand each starts seconds sooner. Nothing needs them.
archive_classes() {
  local archive
  archive=$("$venv/bin/python" -c 'from foreshard.local.spark import class_archive; print(class_archive())')
  [ -f "$archive" ] && return
  say "keeping the Java classes that jobs load (half a minute)"
  "$venv/bin/python" -m foreshard.local.class_archive >>"$log" 2>&1 ||
    say "they could not be kept, so that jobs start more slowly; the log is $log"
}

# A first plan would wait half a minute for it. Nothing needs it.
compile_planner() {
  local stamp="$venv/compiled.sha256" wanted
  wanted=$(cat foreshard/ranking.py foreshard/placement/*.py foreshard/placement/*/*.py | sha256sum)
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && return
  say "compiling the planner (half a minute)"
  if "$venv/bin/python" -m foreshard.local.compiled_planner >>"$log" 2>&1; then
    printf '%s\n' "$wanted" >"$stamp"
  else
    say "it could not be compiled ahead, so that a first plan takes longer; the log is $log"
  fi
}

make_environment
install_requirements
install_extras "$@"
install_java
compile_planner &
compiling=$!
fetch_jars
archive_classes
wait "$compiling"
