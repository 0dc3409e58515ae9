import sys
sys.path.insert(0,'GRID/mini'); sys.path.insert(0,'GRID')
import torch; torch.set_num_threads(2)
from pathlib import Path
from options import Options, load_vae
from parallel import encode, decode
from clips import pixels_and_mask
import world
from world import *
vae=load_vae(Options(Path('RUN/run2'),'cpu',None,None,8))
std=torch.tensor(vae.config.latents_std)[:,None,None,None]; Z={}
C={'mint':(.70,.80,.75),'m1':(.60,.80,.70),'m2':(.55,.75,.65),'m3':(.50,.68,.60),'m4':(.62,.74,.66),'m5':(.45,.62,.58),'m6':(.78,.84,.70),'lilac':(.74,.70,.82),'l1':(.66,.58,.80),'l2':(.70,.62,.85),'l3':(.60,.54,.70),'l4':(.80,.68,.80),'l5':(.82,.70,.74),'gray':(.56,.57,.6),'sand':(.8,.73,.62),'slate':(.36,.42,.49)}
world.GROUNDS.update(C)
import draw
with torch.no_grad():
  for g in C:
    s=Scene((Subject('circle','red','small',.25,.25,0.,.2),),g,'plain')
    px=pixels_and_mask([s]*65,64,64)[0]
    z=encode(vae,px[None]); Z[g]=z[0]/std
    v=decode(vae,z)[0]
    print(g,C[g],[[round(50*float(x),1) for x in (v-px)[:,f,40:,40:].mean((1,2))] for f in (0,24,64)],flush=True)
k=list(C)
for a in k: print(a,[f'{b}:{float((Z[a]-Z[b])[:,10:,4:,4:].square().mean()):.3f}' for b in ('lilac','mint','gray','sand','slate','l1','l2','m1','m2')])
