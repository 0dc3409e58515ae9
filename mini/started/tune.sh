#!/bin/bash
echo 0 > /proc/self/autogroup 2>/dev/null
export OMP_NUM_THREADS=1
exec nice -n 5 PYTHON RUN/tune.py "$@" >> RUN/tune-$1.log 2>&1
