import sys; sys.path.insert(0,'@GRID@/mini'); sys.path.insert(0,'@GRID@')
import torch
from restore import restore, MODEL
m=restore(MODEL); out={}
for e in ('high','low'):
    s=torch.load(f'@RUN@/run15/deep-{e}.pt',map_location='cpu'); out[f'average {e}']={k:v.bfloat16().float() for k,v in s['avg'].items()}; print(e,s['n'])
out['average text']={k:p.detach().clone() for k,p in m.prompts.model.named_parameters()}
torch.save(out,'@RUN@/run14/experts.pt')
