import os, sys
os.environ['OMP_NUM_THREADS']='1'
sys.path.insert(0,'RUN/fast'); sys.path.insert(0,'GRID/mini'); sys.path.insert(0,'GRID')
import torch; torch.set_num_threads(1)
from pathlib import Path
import patched
from options import Options, load_vae
from latents import Encoder
from chain import PRO, held_out_streams
from clips import HELD_OUT
from measure import statistics
from score import pixels_of
from draw import draw
o=Options(Path('RUN/'+sys.argv[1]),'cpu',None,None,8)
enc=Encoder(load_vae(o).eval(),64,64)
S=held_out_streams(16,5,1.0,HELD_OUT+900_000); truths=[s.truth(PRO) for s in S]
G=[]
with torch.no_grad():
  for i in range(5):
    rows=[]
    for t in truths:
        real=draw(t[i],64,64); z=enc(enc.pixels(t[i])).float()
        v=pixels_of(enc.vae,z[None])[0].cpu(); rows.append(statistics(v)-statistics(real))
    g=torch.stack(rows); G.append(g)
    ch=(g-G[0]).abs().mean(0); print(i+1,'gap',[round(100*float(x),2) for x in g.abs().mean(0)],'drift',[round(100*float(x),2) for x in ch],flush=True)
