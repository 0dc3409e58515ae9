#!/bin/bash
echo 0 > /proc/self/autogroup
export OMP_NUM_THREADS=1
cd @RUN@; exec nice -n 3 @PYTHON@ fast/drift.py ${PKG:-@RUN@/run14/package/wan22-mini} ${LOR:-@RUN@/run14/package/wan22-mini-loras} ${ABL:-@RUN@/run14/loras} --json --arms "$1" ${@:3} > arm-$2.json 2> arm-$2.err
