#!/bin/bash
echo 0 > /proc/self/autogroup 2>/dev/null
export OMP_NUM_THREADS=1
cd @RUN@; exec nice -n 3 @PYTHON@ "$@"
