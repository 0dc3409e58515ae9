import os, sys, random
os.environ['OMP_NUM_THREADS']='1'
sys.path.insert(0,'RUN/fast'); sys.path.insert(0,'GRID/mini'); sys.path.insert(0,'GRID')
import torch; torch.set_num_threads(1)
from collections import defaultdict
from restore import restore, MODEL
import patched
from score import held_out, render, SCORED
from shapes import shape_kept
mini=restore(MODEL)
for e in ('high','low'):
    s=torch.load(f'RUN/run2/tune-{e}.pt',map_location='cpu')
    with torch.no_grad():
        for k,v in mini.experts[e].named_parameters(): v.copy_(s['avg'][k])
samples=[s for s in held_out(200,1.0,SCORED+1000) if len(s.frames[0].subjects)==1 and ' spins' not in s.caption and 'camera' not in s.caption][:int(sys.argv[1])]
by=defaultdict(list)
for i in range(0,len(samples),16):
    part=samples[i:i+16]
    v=render(mini.experts,mini.prompts,mini.encoder,part,8,seed=5+i)
    for video,one in zip(v,part):
        k=shape_kept(video,one.frames,0)
        if k is None: continue
        a,b=one.frames[0].subjects[0],one.frames[-1].subjects[0]
        d=round(8*(abs(a.x-b.x)+abs(a.y-b.y)))
        by[f'cells {d}'].append(k); by[a.shape].append(k); by['size '+a.size].append(k); by['all'].append(k)
        px,py=round(8*b.x)%2,round(8*b.y)%2
        by[f'phase {px}{py}'].append(k)
        by['light %d'%one.frames[0].light].append(k)
print({k:f'{sum(x)}/{len(x)}' for k,x in sorted(by.items())})
