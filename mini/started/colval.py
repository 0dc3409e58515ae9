import os, sys
os.environ['OMP_NUM_THREADS']='1'
sys.path.insert(0,'RUN/fast'); sys.path.insert(0,'GRID/mini'); sys.path.insert(0,'GRID')
import torch; torch.set_num_threads(1)
from pathlib import Path
from collections import defaultdict
import patched
from options import Options, averaged, load_averages, load_segments
from flow import predict, mixed, masked
from restore import Applied
run=Path('RUN/run4'); o=Options(run,'cpu',None,None,8)
S=load_segments(o,'pro')
learner=averaged(o,load_averages(o,'experts',{n:n for n in ('high','low','text')}))
experts={n:learner.networks[n].eval().requires_grad_(False) for n in ('high','low')}
idx=[i for i,c in enumerate(S.captions) if ' and a ' not in c][::6][:150]
t,c=S.batch(idx); z=t['z'].float(); noise=torch.randn(z.shape,generator=torch.Generator().manual_seed(3)); text=learner.prompts(c)
y=torch.zeros_like(z); y[:,:,:1]=t['anchor']; y[:,:,1:2]=t['motion']; y=masked(y)
with Applied(experts,{e:[(Path(sys.argv[1])/f'svi-2.0-pro_{e}.safetensors',1.0)] for e in experts}):
    R={}
    for e,lv in (('high',.95),('low',.6)):
        sg=torch.full((len(c),),lv)
        with torch.no_grad(): er=torch.cat([(predict(experts[e],mixed(z,noise,sg)[a:a+50],y[a:a+50],sg[a:a+50],type(text)(text.states[a:a+50],text.bias[a:a+50]))-(noise-z)[a:a+50]).square() for a in range(0,len(c),50)])
        w=t['where'].float(); R[lv]=((er*w).sum((1,2,3,4))/(w.sum((1,2,3,4))*16))
    area=w.mean((1,2,3,4)); zs=((z-z.mean((2,3,4),keepdim=True)).square()*w).sum((1,2,3,4))/(w.sum((1,2,3,4))*16)
    G=defaultdict(list)
    for i,cap in enumerate(c):
        head=cap.split(' on a ')[0].split()
        for k in ('red','yellow','green','blue','pink','circle','square','triangle','star','small','big'):
            if k in head: G[k].append(i)
    for k,v in G.items(): print(k,len(v),{lv:round(float(r[v].mean()),3) for lv,r in R.items()},'area',round(float(area[v].mean()),3),'contrast',round(float(zs[v].mean()),3))
