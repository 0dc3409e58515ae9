#!/bin/bash
# setup.sh RUN GRID PYTHON: these scripts, with folders of the machine in them, in RUN; GRID is a checkout with steps.patch
set -e
mkdir -p $1/run14/live $1/run14/loras $1/run15/latents $1/keep
cp -r "$(dirname "$0")"/* $1/; cd $1
sed -i "s#@PYTHON@#$3#g; s#@GRID@#$2#g; s#@RUN@#$1#g" *.py *.sh fast/*.py
cp -r $2/svid/embedded/wan22-mini/vae $2/svid/embedded/wan22-mini/tokenizer run15/
cp $2/svid/embedded/wan22-mini-loras/*.safetensors keep/
for x in latents tokenizer vae; do ln -sfn $1/run15/$x run14/$x; done
$3 begin.py
