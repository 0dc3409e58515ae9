"""ev2.py FIRST COUNT [nohigh] [nolow] [lcm] [steps=N]: what the tuned experts make of held-out captions."""
import os, sys
os.environ['OMP_NUM_THREADS']='1'
sys.path.insert(0,'@RUN@/fast'); sys.path.insert(0,'@GRID@/mini'); sys.path.insert(0,'@GRID@')
import torch; torch.set_num_threads(1); import precision; precision.NATIVE=()
from pathlib import Path
from collections import defaultdict
from restore import restore, MODEL
from optim import Average
import patched; import score, flow
from score import held_out, score as score_, render, SCORED
from shapes import shape_kept
import judge as J
first,count=int(sys.argv[1]),int(sys.argv[2]); flags=sys.argv[3:]
mini=restore(MODEL)
from prompts import make_tokenizer
mini.prompts.tokenizer=__import__('transformers').AutoTokenizer.from_pretrained('@RUN@/run4/tokenizer')
for e in ('high','low'):
    p=Path(f'@RUN@/run15/deep-{e}.pt')
    if p.exists() and f'no{e}' not in flags:
        s=torch.load(p,map_location='cpu'); 
        with torch.no_grad():
            for k,v in mini.experts[e].named_parameters(): v.copy_(s['avg'][k].bfloat16().float())
        print(e,s['n'])
import random
def resample(experts,noise,condition,text,steps=8,unsaid=None,**_):
    # fresh noise after each step of a share of it: share 1 is lcm's
    x,y,lv=noise,flow.masked(condition,1),flow.euler_levels(steps); g=torch.Generator().manual_seed(11)
    share=[float(f[4:]) for f in flags if f.startswith('sde=')][0]; until=[float(f[6:]) for f in flags if f.startswith('until=')] or [0.0]
    for now,then in zip(lv[:-1].tolist(),lv[1:].tolist()):
        m=experts['high' if now>=flow.BOUNDARY else 'low']; sg=torch.full((len(x),),now)
        v=flow.predict(m,x,y,sg,text); w=flow.predict(m,x,y,sg,unsaid); v=w+flow.GUIDANCE*(v-w)
        x0,eps=x-now*v,x+(1-now)*v
        if then>=until[0]: eps=(1-share**2)**.5*eps+share*torch.randn(x.shape,generator=g)
        x=(1-then)*x0+then*eps
    return x
def scheduled(experts,noise,condition,text,steps=8,unsaid=None,**_):
    from svid.wan.schedule import make_scheduler
    from svid.wan.samplers import sampler_named
    from types import SimpleNamespace as S
    name=[f[8:] for f in flags if f.startswith('sampler=')][0]
    x,y=noise,flow.masked(condition,1); g=torch.Generator().manual_seed(11)
    sch=make_scheduler(S(sampler=name,sigmas=None,shift=5.0,steps=steps),'cpu')
    ex={'generator':g} if sampler_named(name).stochastic else {}
    for t in sch.timesteps:
        now=float(t)/1000; m=experts['high' if now>=flow.BOUNDARY else 'low']; sg=torch.full((len(x),),now)
        v=flow.predict(m,x,y,sg,text); w=flow.predict(m,x,y,sg,unsaid); v=w+flow.GUIDANCE*(v-w)
        x=sch.step(v,t,x,return_dict=False,**ex)[0]
    return x
def ancestral(experts,noise,condition,text,steps=8,unsaid=None,**_):
    x,y,lv=noise,flow.masked(condition,1),flow.euler_levels(steps); g=torch.Generator().manual_seed(11)
    eta=[float(f[4:]) for f in flags if f.startswith('anc=')][0]
    for now,then in zip(lv[:-1].tolist(),lv[1:].tolist()):
        m=experts['high' if now>=flow.BOUNDARY else 'low']; sg=torch.full((len(x),),now)
        v=flow.predict(m,x,y,sg,text); w=flow.predict(m,x,y,sg,unsaid); v=w+flow.GUIDANCE*(v-w)
        down=then*(1+(then/now-1)*eta); x=x+(down-now)*v
        if then>0:
            r=(1-then)/(1-down); x=r*x+(then**2-(down*r)**2)**.5*torch.randn(x.shape,generator=g)
    return x
if any(f.startswith('anc=') for f in flags): score.sample=ancestral
if any(f.startswith('sampler=') for f in flags): score.sample=scheduled
if any(f.startswith('sde=') for f in flags): score.sample=resample
samples=held_out(count,1.0,SCORED+first)
vs=[]
for i in range(0,count,16): vs.append(render(mini.experts,mini.prompts,mini.encoder,samples[i:i+16],8,seed=5+i))
v=torch.cat(vs)
print({k:round(x,3) for k,x in score_(v,samples,64,64).items()})
by=defaultdict(list)
for video,one in zip(v.cpu(),samples):
    for i,s in enumerate(one.frames[0].subjects):
        k=shape_kept(video,one.frames,i)
        if k is None: continue
        by[s.shape].append(k); by['size '+s.size].append(k)
        for w in ('slowly','quickly','spins','bounces','stands','zoom','pan'):
            if w in one.caption: by[w].append(k)

from shapes import fits, presence, SEEN
from world import SHAPES
from pathlib import Path as P_
bad=[]
for vi,(video,one) in enumerate(zip(v.cpu(),samples)):
    for i,s_ in enumerate(one.frames[0].subjects):
        k=shape_kept(video,one.frames,i)
        if k is False:
            each=[fits(presence(video[at],s_.colour)) for at in SEEN]
            m={q:round(sum(f[q] for f in each)/3,2) for q in SHAPES}
            print(vi,one.caption,s_.colour,s_.shape,m); bad.append(vi)
bad=sorted(set(bad))
torch.save(v.half(),'@RUN@/ev.pt')
if bad: J.sheet(v[bad],[samples[b] for b in bad],P_('@RUN@/bad.png'))
print({k:f'{sum(x)}/{len(x)}' for k,x in sorted(by.items())})
if 'sheet' in flags: J.sheet(v[:16],samples[:16],Path('@RUN@/ev5.png'))
