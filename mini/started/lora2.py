"""lora2.py NAME STEPS RATE INITDIR|- [INITNAME] [SCALEHIGH]: train a LoRA of train_loras' PLANS or ABLATIONS from INITDIR's files on run2's experts.pt."""
import os, sys
os.environ['OMP_NUM_THREADS']='1'
sys.path.insert(0,'GRID/mini'); sys.path.insert(0,'GRID')
import torch; torch.set_num_threads(1)
from dataclasses import replace
from pathlib import Path
import train_loras as T
from lora import Lora, read_pairs
from options import Options
name,steps,rate,init=sys.argv[1],int(sys.argv[2]),float(sys.argv[3]),sys.argv[4]
iname=sys.argv[5] if len(sys.argv)>5 else name
plan=replace({**T.PLANS,**T.ABLATIONS}[name],steps=steps,rate=rate)
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
            with torch.no_grad(): p.down.copy_(d); p.up.copy_(u)
T.Lora=Begun
(Path('RUN/run2')/'loras').mkdir(exist_ok=True)
T.train_lora(Options(Path('RUN/run2'),'cpu',None,None,8),name,plan)
