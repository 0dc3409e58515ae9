#!/bin/bash
# pipe10.sh A|B: the other LoRAs beside Pro, the ablations, the package, the arms. Begins again where it was.
cd RUN; export RUN=RUN/run10
lora() { [ -f run10/done-$1 ] || { ./run1.sh lora9.py $1 $2 $3 $4 > l-$1.log 2>&1 && touch run10/done-$1; }; }
if [ $1 = A ]; then
 lora distill 240 8e-3 RUN/keep2
 while [ ! -f run10/done-hard-cut ]; do sleep 2; done
 ./run1.sh export5.py > exp10.log 2>&1 && touch run10/done-export
 lora pro-short 600 1.5e-2 -
else
 lora hard-cut 600 8e-3 RUN/keep2
 lora pro-layout-only 600 1.5e-2 -
 lora pro-no-anchor 600 1.5e-2 -
fi
