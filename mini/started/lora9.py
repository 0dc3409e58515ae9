"""lora2.py NAME STEPS RATE INITDIR|- [INITNAME] [SCALEHIGH]: train a LoRA of train_loras' PLANS or ABLATIONS from INITDIR's files on run2's experts.pt."""
import os, sys
os.environ['OMP_NUM_THREADS']='1'
sys.path.insert(0,'@GRID@/mini'); sys.path.insert(0,'@GRID@')
import torch; torch.set_num_threads(1)
import precision; precision.NATIVE=()
from dataclasses import replace
from pathlib import Path
import train_loras as T
from lora import Lora, read_pairs
from options import Options
import experts as EX

from recycle import Recycling
name,steps,rate,init=sys.argv[1],int(sys.argv[2]),float(sys.argv[3]),sys.argv[4]
iname=sys.argv[5] if len(sys.argv)>5 else name
plan=replace({**T.PLANS,**T.ABLATIONS}[name],steps=steps,rate=rate)
if os.environ.get('CLEAN'): plan=replace(plan,recycling=Recycling(0.85,0.0,0.3))
made=T.Lora
class Begun(made):
    count=0
    def __init__(self,model,rank,seed):
        super().__init__(model,rank,seed)
        if init=='-': return
        e=plan.experts[seed-20]
        pairs=read_pairs(Path(init)/f'{iname}_{e}.safetensors')
        for n,p in zip(self.pairs,self.loras()):
            d,u=pairs[n.replace('/','.')]
            with torch.no_grad(): 
                r=len(p.down)
                if len(d)!=r:
                    U,S,V=torch.linalg.svd(u.float()@d.float(),full_matrices=False); u,d=U[:,:r]*S[:r].sqrt(),V[:r]*S[:r].sqrt()[:,None]
                p.down.copy_(d); p.up.copy_(u)
T.Lora=Begun
whole_=T.load_segments
def modern(c):
    head=c.split(', ')[0].split(' on a ')[0]
    if ' spins and ' in head: return False
    return ' and a ' not in head or ' stands still' in head.split(' and a ',1)[1]
class Kept:
    def __init__(s,segs): s.segs=segs; s.index=[i for i,c in enumerate(segs.captions) if modern(c)]; s.captions=[segs.captions[i] for i in s.index]; s.kinds=[segs.kinds[i] for i in s.index]
    def __len__(s): return len(s.index)
    def batch(s,chosen): return s.segs.batch([s.index[i] for i in chosen])
T.load_segments=lambda o,k: Kept(whole_(o,k)) if k=='plain' else whole_(o,k)
(Path(os.environ.get('RUN','@RUN@/run2'))/'loras').mkdir(exist_ok=True)
T.train_lora(Options(Path(os.environ.get('RUN','@RUN@/run2')),'cpu',None,None,8),name,plan)
