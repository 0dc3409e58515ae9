"""lora5.py EXPERT STEPS RATE INITDIR [HOLD]: SVI 2.0 Pro's LoRA on one expert, a process for each, which exchange what they have in @RUN@/live."""
import os, sys
os.environ['OMP_NUM_THREADS']='1'
sys.path.insert(0,'@GRID@/mini'); sys.path.insert(0,'@GRID@')
import torch; torch.set_num_threads(1)
import precision; precision.NATIVE=()
from dataclasses import replace
from pathlib import Path
import train_loras as T, batches as B, experts as EX
from adapters import recycling_step, roll
from lora import Lora, read_pairs, write_lora
from optim import Muon, Average
from options import Options, averaged, load_averages, load_segments
from recycle import Chains, Recycling
from batches import Trainee
from runs import Run
expert,steps,rate,init=sys.argv[1],int(sys.argv[2]),float(sys.argv[3]),Path(sys.argv[4])
hold=float(sys.argv[5]) if len(sys.argv)>5 else .4
other={'high':'low','low':'high'}[expert]
RUN=Path(os.environ.get('RUN','@RUN@/run4')); live=RUN/'live'; live.mkdir(exist_ok=True)

plan=replace(T.PLANS['svi-2.0-pro'],steps=steps,rate=rate,recycling=Recycling())
o=Options(RUN,'cpu',None,None,8)
def modern(c):
    head=c.split(', ')[0].split(' on a ')[0]
    if ' spins and ' in head: return False
    return ' and a ' not in head or ' stands still' in head.split(' and a ',1)[1]
class Kept:
    def __init__(s,segs): s.segs=segs; s.index=[i for i,c in enumerate(segs.captions) if modern(c)]; s.captions=[segs.captions[i] for i in s.index]; s.kinds=[segs.kinds[i] for i in s.index]
    def __len__(s): return len(s.index)
    def batch(s,chosen): return s.segs.batch([s.index[i] for i in chosen])
learner=averaged(o,load_averages(o,'experts',{n:n for n in ('high','low','text')}))
experts={n:learner.networks[n] for n in ('high','low')}
RANK=int(os.environ.get('RANK','20'))
loras={e:Lora(experts[e],RANK,seed=20+i) for i,e in enumerate(('high','low'))}
def put(e,file):
    pairs=read_pairs(file)
    with torch.no_grad():
        for n,p in zip(loras[e].pairs,loras[e].loras()):
            d,u=pairs[n.replace('/','.')]; r=len(d); p.down[:r].copy_(d); p.up[:,:r].copy_(u)
for e in loras: put(e,init/f'svi-2.0-pro_{e}.safetensors')
for p in loras[other].parameters(): p.requires_grad_(False)
trainee=Trainee(experts,loras,learner.prompts,Kept(load_segments(o,'plain')),load_segments(o,'pro'),plan.recycling)
from samples import DEPTH
import random
class Half(Chains):
    def advance(s,count,rng):
        side=int(expert=='low'); n=len(s.segments)//DEPTH
        chains=rng.sample(range(side,n,2),count); links=[DEPTH*c+s.after.get(c,0) for c in chains]
        s.after|={l//DEPTH:(l+1)%DEPTH for l in links}; return links
    def keep(s,links,errors):
        super().keep(links,errors)
        f=live/f'chains-{expert}.pt'; torch.save({k:v for k,v in s.errors.items() if k//DEPTH%2==int(expert=='low')},f.with_suffix('.part')); f.with_suffix('.part').replace(f)
        g=live/f'chains-{other}.pt'
        if g.exists(): s.errors|=torch.load(g,map_location='cpu')
trainee.chains=Half(load_segments(o,'link'))
f=live/f'chains-{expert}.pt'
if f.exists():
    trainee.chains.errors|=torch.load(f,map_location='cpu')
    for k in sorted(trainee.chains.errors): trainee.chains.after[k//DEPTH]=(k+1)%DEPTH
cutter=replace(trainee,special=load_segments(o,'cut'))
run=Run(f'pro-{expert}',RUN,steps,{expert:loras[expert]},[Muon(list(loras[expert].parameters()),rate)],seed=13 if expert=='high' else 14,warm=.02,hold=hold)
def step(k,progress):
    number=2*k+(expert=='low')
    if expert=='low' and k%T.CUTS==0: loss,notes=recycling_step(cutter,'hard-cut, svi-2.0-pro',expert,number,'cpu')
    else: loss,notes=recycling_step(trainee,'svi-2.0-pro',expert,number,'cpu')
    run.note(**notes); return loss
def share():
    f=live/f'svi-2.0-pro_{expert}.safetensors'; write_lora(loras[expert],f.with_suffix('.part'),True); f.with_suffix('.part').replace(f)
    g=live/f'svi-2.0-pro_{other}.safetensors'
    if g.exists(): put(other,g)
def after(k):
    if k%int(os.environ.get('ROLL','25'))==0: run.note(finished=roll(trainee,'svi-2.0-pro',2*k+(expert=='low'),'cpu'))
    if k%25==0: share()
run.train(step,after)
(RUN/'loras').mkdir(exist_ok=True); write_lora(loras[expert],RUN/'loras'/f'svi-2.0-pro_{expert}.safetensors',True)
