"""cutev.py LORADIR FIRST COUNT: cuts by i2v and Pro, without, and the four steps, on run14's experts.pt"""
import os, sys
os.environ['OMP_NUM_THREADS']='1'
sys.path.insert(0,'@RUN@/fast'); sys.path.insert(0,'@GRID@/mini'); sys.path.insert(0,'@GRID@')
import torch; torch.set_num_threads(1); import precision; precision.NATIVE=()
from pathlib import Path
from restore import restore, MODEL, Applied
import patched, score, flow
from score import held_out, render, SCORED, score as score_
from cuts import hard_cuts, cut_happens
from samples import draw_sample
import judge as J
mini=restore(MODEL)
s=torch.load('@RUN@/run14/experts.pt')
for e in ('high','low'):
    with torch.no_grad():
        for k,v in mini.experts[e].named_parameters(): v.copy_(s['average '+e][k])
d=Path(sys.argv[1]); first,count=int(sys.argv[2]),int(sys.argv[3])
cuts=[draw_sample(SCORED+100_000+first+i,1.0,'cut') for i in range(count)]
shares,shown=hard_cuts(mini,d,cuts,8); print({k:round(v,3) for k,v in shares.items()},flush=True)
vs=J.rendered(mini,cuts,8); print('without',sum(map(cut_happens,vs))/count,flush=True)
for name,some in shown.items(): J.sheet(some[:8],cuts[:8],Path(f'@RUN@/cut-{name}.png'))
if 'four' in sys.argv:
    g=flow.GUIDANCE; flow.GUIDANCE=1.0
    with Applied(mini.experts,{e:[(d/f'distill_{e}.safetensors',1.0)] for e in ('high','low')}):
        ss=held_out(32,1.0); v=torch.cat([render(mini.experts,mini.prompts,mini.encoder,ss[i:i+16],4,seed=5+i) for i in (0,16)])
        print('four',{k:round(x,3) for k,x in score_(v,ss,64,64).items()})
    ss=held_out(32,1.0); v=torch.cat([render(mini.experts,mini.prompts,mini.encoder,ss[i:i+16],4,seed=5+i) for i in (0,16)])
    print('four without',{k:round(x,3) for k,x in score_(v,ss,64,64).items()})
