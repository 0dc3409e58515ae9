"""contract.py LORADIR...: one segment from clean and astray motion latents: what of the error is left."""
import os, sys
os.environ['OMP_NUM_THREADS']='1'
sys.path.insert(0,'RUN/fast'); sys.path.insert(0,'GRID/mini'); sys.path.insert(0,'GRID')
import torch; torch.set_num_threads(1)
from pathlib import Path
import patched
from options import Options, averaged, load_averages, load_vae
from latents import Encoder, ITEMS
from clips import HELD_OUT
from flow import predict, mixed, masked, sample
from restore import Applied
from score import pixels_of
from measure import statistics
from samples import draw_joint
from draw import draw
from svid.wan.prompts import NEGATIVE_ZH
run=Path('RUN/run4'); o=Options(run,'cpu',None,None,8); cache=run/'contract.pt'
enc=Encoder(load_vae(o).eval(),64,64); N=32; S0=HELD_OUT+5_000_000
if not cache.exists():
    rows=[ITEMS['pro'](enc,S0+i,1.0) for i in range(N)]
    torch.save(({k:torch.stack([r[0][k] for r in rows]) for k in rows[0][0]},[r[1]['caption'] for r in rows]),cache)
t,c=torch.load(cache); t={k:v.float() for k,v in t.items()}
real=[draw(draw_joint(S0+i).frames,64,64) for i in range(N)]
learner=averaged(o,load_averages(o,'experts',{n:n for n in ('high','low','text')}))
experts={n:learner.networks[n].eval().requires_grad_(False) for n in ('high','low')}
z=t['z']; noise=torch.randn(z.shape,generator=torch.Generator().manual_seed(3)); text=learner.prompts(c); un=learner.prompts([NEGATIVE_ZH]*N)
w=t['where'].float()
for d in sys.argv[1:]:
  with torch.no_grad(), Applied(experts,{e:[(Path(d)/f'svi-2.0-pro_{e}.safetensors',1.0)] for e in experts} if d!='-' else {}):
    for share in (0.,.5,1.):
        y=torch.zeros_like(z); y[:,:,:1]=t['anchor']; y[:,:,1:2]=t['motion']+share*(t['astray']-t['motion'])
        if d=='-': y[:]=0; y[:,:,:1]=z[:,:,:1]
        made=sample(experts,noise,y,text,steps=8,unsaid=un)
        e=(made-z).square(); per=lambda s:float((e[:,:,s]*w[:,:,s]).sum()/(w[:,:,s].sum()*16))
        v=pixels_of(enc.vae,made).cpu() if made.shape[0] else None
        tail=[(statistics(a[-8:].float())-statistics(r[-8:])) for a,r in zip(v,real)]; tail=torch.stack(tail)
        print(d,share,'subject err slots 1,4,10,20',[round(per(slice(s,s+1)),3) for s in (1,4,10,20)],'input',round(float(((y[:,:,1:2]-t['motion']).square()*w[:,:,1:2]).sum()/(w[:,:,1:2].sum()*16)),3),'tail |stat|',[round(100*float(x),2) for x in tail.abs().mean(0)[:3]],'bias',[round(100*float(x),2) for x in tail.mean(0)[:3]],flush=True)
        if d=='-': break
