import sys, os, json
os.environ['OMP_NUM_THREADS']='1'
sys.path.insert(0,'GRID/mini'); sys.path.append('RUN/fast'); sys.path.append('GRID')
import torch; torch.set_num_threads(1)
from pathlib import Path
from options import Options, load_vae, HEIGHT, WIDTH
from latents import Encoder, write_shards
from samples import FIRST_SEEDS
from clips import HELD_OUT
part,of,count=int(sys.argv[1]),int(sys.argv[2]),int(sys.argv[3]); kinds=sys.argv[4:]
o=Options(Path('RUN/run4'),'cpu',None,None,8)
vae=load_vae(o)
import latents
from fast_encode import fast
latents.encode=lambda v,p: v.encode_clip(p)
enc=Encoder(fast(vae),HEIGHT,WIDTH)
f=o.out/'latents'
for k in kinds:
    if k=='held': write_shards(enc,f/'held','plain',128,HELD_OUT); continue
    write_shards(enc,f,k,count,FIRST_SEEDS[k],(part,of))
