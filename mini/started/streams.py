import os, sys
os.environ['OMP_NUM_THREADS']='1'
sys.path.insert(0,'RUN/fast'); sys.path.insert(0,'GRID/mini'); sys.path.insert(0,'GRID')
import torch; torch.set_num_threads(1)
from pathlib import Path
import patched
from chain import I2V, PRO, chain, held_out_streams
from clips import HELD_OUT
from measure import statistics
from draw import draw
from restore import Applied, restore
mini=restore(Path('RUN/pkg2/wan22-mini')); enc=mini.encoder
S=held_out_streams(16,8,1.0,HELD_OUT+900_000)
way=PRO if sys.argv[1]=='pro' else I2V
files={e:[(Path(f'RUN/keep2/svi-2.0-pro_{e}.safetensors'),1.0)] for e in ('high','low')} if way is PRO else {}
truths=[s.truth(way) for s in S]; first=None; G=[]
with Applied(mini.experts,files):
    for i,(v,_) in enumerate(chain(way,mini.experts,mini.prompts,enc,S,8)):
        real=torch.stack([draw(t[i],64,64) for t in truths])
        g=torch.stack([statistics(a)-statistics(b) for a,b in zip(v.cpu(),real)])
        G.append(g); print('segment',i+1,flush=True)
first=G[0]
for n,s in enumerate(S):
    print(n,s.scene.ground,s.scene.texture,s.scene.subjects[0].colour,'gap1',[round(100*float(x),1) for x in first[n][:3]],'change',[[round(100*float(x),1) for x in (g[n]-first[n])[:3]] for g in (G[1],G[3],G[7])])
