#!/usr/bin/env bash
# Install SGLang for a CPU from nothing, start it, and hold the sglang engine to it.
#
#   tests/real_engines/sglang.sh [ENVIRONMENT] [PYTEST ARGUMENTS]
#
# ENVIRONMENT is a folder for SGLang's virtual environment (3.5 GB), a temporary one by default; one that is there is
# used as it is. plait's own Python, with plait[dev], is the one on the path or in $PYTHON. There is no CPU build of
# SGLang's kernels: see the shims in sglang_on_cpu.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
environment=${1:-}
shift || true
if [ -z "$environment" ]; then
  environment=$(mktemp -d)
  trap 'rm -rf "$environment"' EXIT
fi
python=$environment/bin/python

if [ ! -x "$python" ]; then
  python3 -m venv "$environment"
fi
if ! "$python" -m pip show -qq sglang; then
  "$python" -m pip install -q torch==2.13.0
  "$python" -m pip install -q --no-deps sglang==0.5.23 torchvision==0.28.0
  "$python" "$here/sglang_on_cpu/requirements.py" >"$environment/requirements.txt"
  "$python" -m pip install -q -r "$environment/requirements.txt"
fi
"$python" -m pip list 2>/dev/null | grep -E '^(sglang|torch|torchvision|transformers|xgrammar|llguidance) '

export PLAIT_SGLANG_PYTHON=$python OMP_NUM_THREADS=1
"${PYTHON:-python}" -m pytest -m real_engines "$here/test_sglang.py" -v -s "$@"
