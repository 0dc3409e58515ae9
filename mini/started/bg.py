import os, sys
os.environ['OMP_NUM_THREADS']='1'
sys.path.insert(0,'RUN/fast'); sys.path.insert(0,'GRID/mini'); sys.path.insert(0,'GRID')
import torch; torch.set_num_threads(1)
from pathlib import Path
from collections import defaultdict
from restore import restore
import patched, score, flow
from score import held_out, SCORED
from draw import draw, draw_shot
src=sys.argv[1]; first=int(sys.argv[2]); n=int(sys.argv[3])
mini=restore(Path(src))

if os.environ.get('DEC'):
    st=torch.load('RUN/run2/dec.pt',map_location='cpu'); print('decoder at',st['n'])
    with torch.no_grad():
        for k,p in mini.encoder.vae.named_parameters(): p.copy_(st['avg'][k])
S=held_out(n,1.0,SCORED+first)
lat={}
old=score.pixels_of
def grab(vae,z): lat['z']=z; return old(vae,z)
score.pixels_of=grab
by=defaultdict(list)
for i in range(0,n,16):
    part=S[i:i+16]
    v=score.render(mini.experts,mini.prompts,mini.encoder,part,8,seed=5+i)
    for j,(video,s) in enumerate(zip(v,part)):
        t=draw(s.frames,64,64); m=1-draw_shot(s.frames,64,64)[1].amax(1) if True else 0
        m=(m>0.99).float()[...,None]
        for tag,f in (('f0',slice(0,1)),('end',slice(73,81))):
            d=((video-t)*m)[f].sum((0,1,2))/m[f].sum((0,1,2))
            by[s.frames[0].ground+' '+tag].append(d)
        vz=mini.encoder.vae
for k,x in sorted(by.items()):
    x=torch.stack(x); print(f'{k:12} n={len(x)} mean {[round(100*float(a),1) for a in x.mean(0)]} abs {[round(100*float(a),1) for a in x.abs().mean(0)]}')
