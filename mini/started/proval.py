"""proval.py [LORADIR|-]: held-out Pro segments, clean motion latents: velocity error."""
import os, sys
os.environ['OMP_NUM_THREADS']='1'
sys.path.insert(0,'@RUN@/fast'); sys.path.insert(0,'@GRID@/mini'); sys.path.insert(0,'@GRID@')
import torch; torch.set_num_threads(1)
from pathlib import Path
import patched
from options import Options, averaged, load_averages, load_vae
from latents import Encoder, ITEMS, whole
from clips import HELD_OUT
from flow import predict, mixed, masked
from restore import Applied
run=Path('@RUN@/run4'); o=Options(run,'cpu',None,None,8); cache=run/'proval.pt'
if not cache.exists():
    enc=Encoder(load_vae(o).eval(),64,64); rows=[ITEMS['pro'](enc,HELD_OUT+5_000_000+i,1.0) for i in range(28)]
    torch.save(({k:torch.stack([r[0][k] for r in rows]) for k in rows[0][0]},[r[1]['caption'] for r in rows]),cache)
t,c=torch.load(cache); t={k:v.float() for k,v in t.items()}
learner=averaged(o,load_averages(o,'experts',{n:n for n in ('high','low','text')}))
experts={n:learner.networks[n].eval().requires_grad_(False) for n in ('high','low')}
z=t['z']; noise=torch.randn(z.shape,generator=torch.Generator().manual_seed(3)); text=learner.prompts(c)
def cond(kind):
    y=torch.zeros_like(z)
    if kind=='pro': y[:,:,:1]=t['anchor']; y[:,:,1:2]=t['motion']; return masked(y)
    if kind=='plain': return None
    if kind=='two': y[:,:,:2]=z[:,:,:2]; return masked(y,2)
    if kind=='second': y[:,:,1:2]=z[:,:,1:2]; m=masked(y,1); m[:,:4]=0; m[:,:4,1]=1; return m
    if kind=='zeros': y[:,:,:1]=z[:,:,:1]; return masked(y,1)
    if kind=='first': y[:,:,:1]=z[:,:,:1]; return masked(y,1)
def show(tag,y):
    out={}
    for e,lvs in (('high',(1.0,.95)),('low',(.85,.6,.3))):
        for lv in lvs:
            sg=torch.full((28,),lv)
            with torch.no_grad(): er=(predict(experts[e],mixed(z,noise,sg),y,sg,text)-(noise-z)).square()
            w=t['where'].float(); out[lv]=(round(float(er.mean()),4),round(float((er*w).sum()/(w.sum()*16)),3),round(float(er[:,:,2:].mean()),4))
    print(tag,out,flush=True)
for d in sys.argv[1:]:
    if d=='-':
        for k in ('first','two','second'): show(k,cond(k))
    else:
        with Applied(experts,{e:[(Path(d)/f'svi-2.0-pro_{e}.safetensors',1.0)] for e in experts}): show(d,cond('pro')); show('first of pro',cond('zeros'))
