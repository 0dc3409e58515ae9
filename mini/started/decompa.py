"""decomp.py i2v|pro LORADIR SEGS EXPERTS: drift of the background alone and of the subjects alone."""
import os, sys
os.environ['OMP_NUM_THREADS']='1'
sys.path.insert(0,'@RUN@/fast'); sys.path.append('@RUN@'); sys.path.insert(0,'@GRID@/mini'); sys.path.insert(0,'@GRID@')
import torch; torch.set_num_threads(1)
import precision; precision.NATIVE=()
import torch.nn.functional as F
from pathlib import Path
import patched
import anc
from chain import I2V, PRO, chain, held_out_streams
from clips import HELD_OUT, pixels_and_mask
from detect import presence
from measure import statistics, kept, joined, worst
from draw import draw
from options import Options, averaged, load_averages, load_vae
from latents import Encoder
from restore import Applied, restore, MODEL
from judge import sheet
run=Path(sys.argv[3]) if len(sys.argv)>3 else Path('@RUN@/run4'); N=int(sys.argv[4]) if len(sys.argv)>4 else 6
o=Options(run,'cpu',None,None,8)
enc=Encoder(load_vae(o).eval(),64,64)
learner=averaged(o,load_averages(o,'experts',{n:n for n in ('high','low','text')}))
experts={n:learner.networks[n].eval().requires_grad_(False) for n in ('high','low')}
way=PRO if sys.argv[1]=='pro' else I2V
S=held_out_streams(16,max(N,20),1.0,HELD_OUT+int(os.environ.get('FIRST','900000')))
from chain import Stream
S=[Stream(s.scene,s.scripts[:N]) for s in S]
files={e:[(Path(sys.argv[2])/f'svi-2.0-pro_{e}.safetensors',float(os.environ.get(e.upper(),'1')))] for e in ('high','low')} if way is PRO else {}
if os.environ.get('GUIDE'):
    import flow; flow.GUIDANCE=float(os.environ['GUIDE'])
truths=[s.truth(way) for s in S]; first=None; K=[]; ROWS=[]; last=None; SE=[]
names=('all','ground','subject')
with torch.no_grad(), Applied(experts,files):
    for i,(v,streamed) in enumerate(chain(way,experts,learner.prompts,enc,S,8)):
        v=v.cpu(); g={n:[] for n in names}; sheetrow=[]; k=[]
        for a,t in zip(v,truths):
            real=draw(t[i],64,64); _,mask=pixels_and_mask(t[i],64,64)
            near=mask
            for s in t[i][-1].subjects: near=torch.maximum(near,presence(a,s.colour).float()); k.append(kept(a,real,s.colour))
            near=(F.max_pool2d(near[None],5,1,2)[0]>.3).float()[...,None]
            base=statistics(real)
            g['all'].append(statistics(a)-base); g['ground'].append(statistics(a*(1-near)+real*near)-base); g['subject'].append(statistics(real*(1-near)+a*near)-base)
        g={n:torch.stack(x) for n,x in g.items()}
        real=torch.stack([draw(t[i],64,64) for t in truths]); ov=way.overlap; se=0
        if last is not None:
            jo=[joined(a,b,ov,'head') for a,b in zip(last,v)] if streamed is None else list(streamed.cpu())
            tj=[joined(a,b,ov,'head') for a,b in zip(lastr,real)]; se=100*sum(worst(a,b) for a,b in zip(jo,tj))/len(jo); SE.append(se)
        last,lastr=v[:,-ov-1:],real[:,-ov-1:]
        if first is None: first=g
        K.append(sum(k)/len(k)); ROWS.append(torch.cat([torch.cat([real[:,40],v[:,40]],1),torch.cat([real[:,76],v[:,76]],1)],2))
        print(i+1,'seam',round(se,2),'mean',round(sum(SE)/max(len(SE),1),2),'kept',round(K[-1],2),{n:[round(100*float(x),2) for x in (g[n]-first[n]).abs().mean(0)[:3]] for n in names},'drift',{n:round(100*float((g[n]-first[n]).abs().mean(0)[:3].mean()),2) for n in names},flush=True)
if os.environ.get('SHEET'):
    from PIL import Image
    im=torch.cat(ROWS,2).reshape(-1,64*2*len(ROWS),3); Image.fromarray((im*255).round().clamp(0,255).byte().numpy()).save(os.environ['SHEET'])
for n,s in enumerate(S): print(n,s.scene.ground,s.scene.texture,[x.colour+' '+x.shape+' '+x.size for x in s.scene.subjects],*[(m,[round(100*float(x),1) for x in (g[m]-first[m])[n][:3]]) for m in ('ground','subject')])
