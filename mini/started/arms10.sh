#!/bin/bash
# arms10.sh NAME...: arms on the package of run10, one after another
export PKG=RUN/run10/package/wan22-mini LOR=RUN/run10/package/wan22-mini-loras
cd RUN
for a in "$@"; do f=$(echo "$a" | tr ' ,.' '___'); [ -s arm-r10-$f.json ] || ./arm.sh "$a" r10-$f; done
