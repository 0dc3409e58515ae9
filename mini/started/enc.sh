#!/bin/bash
echo 0 > /proc/self/autogroup 2>/dev/null
export OMP_NUM_THREADS=1
exec nice -n 5 PYTHON RUN/enc.py "$@" > RUN/enc-$1-$2-$4.log 2>&1
