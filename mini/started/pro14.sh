#!/bin/bash
cd @RUN@; export RUN=@RUN@/run14 ROLL=12
./run1.sh lora8.py $1 $2 $3 @RUN@/keep 0.3 > p-$1.log 2>&1
