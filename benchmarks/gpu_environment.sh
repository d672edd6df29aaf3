#!/usr/bin/env bash
# An environment for gpu_quarter_hour.sh in $WORK/venv: on top of a Python whose PyTorch sees a GPU, where there is one;
# with the wheels in $CARRIED/wheels; and else from the package index. What is missing in the end, it says.
set -uo pipefail
python=$WORK/venv/bin/python

if [ ! -x "$python" ]; then
    for base in ${PYTHON:-} python3 .venv/bin/python; do
        packages=$("$base" -c "import torch; assert torch.cuda.is_available() or '${TOY:-}'; print(torch.__path__[0])" 2> /dev/null) && break
    done
    [ -n "$packages" ] || base=${PYTHON:-python3}
    "$base" -m venv "$WORK/venv" || exit
    site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    [ -z "$packages" ] || dirname "$packages" > "$site/parent.pth"
    compgen -G "$CARRIED/wheels/*.whl" > /dev/null && "$python" -m pip install --quiet --no-index --no-deps "$CARRIED"/wheels/*.whl
    "$python" benchmarks/gpu_environment.py > /dev/null || "$python" -m pip install --quiet --retries 1 -e '.[train,synth]' pytest
fi
"$python" benchmarks/gpu_environment.py
