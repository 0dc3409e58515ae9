"""trval.py LORADIR...: as proval.py, on segments that are learned from."""
import os, sys
os.environ['OMP_NUM_THREADS']='1'
sys.path.insert(0,'RUN/fast'); sys.path.insert(0,'GRID/mini'); sys.path.insert(0,'GRID')
import torch; torch.set_num_threads(1)
from pathlib import Path
import patched
from options import Options, averaged, load_averages, load_segments
from flow import predict, mixed, masked
from restore import Applied
run=Path('RUN/run4'); o=Options(run,'cpu',None,None,8)
S={'pro':load_segments(o,'pro'),'link':load_segments(o,'link')}
learner=averaged(o,load_averages(o,'experts',{n:n for n in ('high','low','text')}))
experts={n:learner.networks[n].eval().requires_grad_(False) for n in ('high','low')}
N=56
def show(tag,t,c):
    z=t['z'].float(); noise=torch.randn(z.shape,generator=torch.Generator().manual_seed(3)); text=learner.prompts(c)
    y=torch.zeros_like(z); y[:,:,:1]=t['anchor']; y[:,:,1:2]=t['motion']; y=masked(y); out={}
    for e,lvs in (('high',(1.0,.95)),('low',(.85,.6,.3))):
        for lv in lvs:
            sg=torch.full((len(c),),lv)
            with torch.no_grad(): er=(predict(experts[e],mixed(z,noise,sg),y,sg,text)-(noise-z)).square()
            w=t['where'].float(); per=er.mean((1,2,3,4)); out[lv]=(round(float(er.mean()),4),'+-',round(float(per.std()/len(c)**.5),4),round(float((er*w).sum()/(w.sum()*16)),3))
    print(tag,out,flush=True)
ht,hc=torch.load(run/'proval.pt'); ht={k:v.float() for k,v in ht.items()}
for d in sys.argv[1:]:
    with Applied(experts,{e:[(Path(d)/f'svi-2.0-pro_{e}.safetensors',1.0)] for e in experts}):
        show('held out',ht,hc)
        for k in S:
            idx=[i for i in range(7,len(S[k]),len(S[k])//N)][:N]
            if k=='link': idx=[i for i in idx if i%20]
            t,c=S[k].batch(idx); show(k,t,c)
