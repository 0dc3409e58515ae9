"""enc6.py KIND FIRSTSHARD LASTSHARD STEP [held]: shards of segments with the fast kernels."""
import sys, os, time
os.environ['OMP_NUM_THREADS']='1'
sys.path.insert(0,'@GRID@/mini'); sys.path.append('@RUN@/fast'); sys.path.append('@GRID@')
import torch; torch.set_num_threads(1)
import precision; precision.NATIVE=()
import latents as L
from pathlib import Path
from options import Options, load_vae, HEIGHT, WIDTH
from samples import FIRST_SEEDS
from clips import HELD_OUT
from fast_encode import fast
import json
from safetensors.torch import save_file
L.encode=lambda v,p: v.encode_clip(p)
o=Options(Path('@RUN@/run15'),'cpu',None,None,8)
enc=L.Encoder(fast(load_vae(o)),HEIGHT,WIDTH)
kind,a,b,s=sys.argv[1],*map(int,sys.argv[2:5]); held='held' in sys.argv
f=o.out/'latents'/('held' if held else '.'); f.mkdir(parents=True,exist_ok=True)
seed=HELD_OUT if held else FIRST_SEEDS[kind]
for shard in range(a,b,s):
    p=f/f'{kind}-{shard:04d}.safetensors'
    if p.exists(): continue
    t=time.time()
    items=[L.ITEMS[kind](enc,seed+shard*L.SHARD+i,1.0) for i in range(L.SHARD)]
    ts={n:torch.stack([x[n] for x,_ in items]).contiguous() for n in items[0][0]}
    save_file(ts,p.with_suffix('.tmp'),{n:json.dumps([w[n] for _,w in items]) for n in items[0][1]}); p.with_suffix('.tmp').replace(p)
    print(p,time.time()-t,flush=True)
