import os, sys
os.environ['OMP_NUM_THREADS']='1'
sys.path.insert(0,'GRID/mini'); sys.path.insert(0,'GRID')
import torch; torch.set_num_threads(1)
from pathlib import Path
import rendered as R
from options import Options, averaged, load_averages
from restore import Applied
from safetensors.torch import save_file
o=Options(Path('RUN/run4'),'cpu',None,None,8)
learner=averaged(o,load_averages(o,'experts',{n:n for n in ('high','low','text')}))
experts={n:learner.networks[n] for n in ('high','low')}
pro={n:[(o.out/'loras'/f'svi-2.0-pro_{n}.safetensors',1.0)] for n in experts}
folder=o.out/'rendered'; folder.mkdir(exist_ok=True)
for kind,shard in (('pro','0000'),('plain','0056'),('pro','0001'),('plain','0057'),('pro','0002')):
    p=folder/f'{kind}-{shard}.safetensors'
    if p.exists(): continue
    with Applied(experts,pro if kind=='pro' else {}):
        save_file(R.render_shard(o,experts,learner.prompts,kind,shard),p.with_suffix('.tmp')); p.with_suffix('.tmp').replace(p); print(p,flush=True)
