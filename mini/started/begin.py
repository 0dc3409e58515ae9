"""begin.py: RUN/run14/experts.pt from mini/started/experts."""
import sys; sys.path.insert(0,'@GRID@/mini'); sys.path.insert(0,'@GRID@')
import torch
from pathlib import Path
from safetensors.torch import load_file
from restore import restore, MODEL
here=Path(__file__).resolve().parent; m=restore(MODEL)
out={f'average {e}':{k:v.float() for k,v in load_file(here/'experts'/f'{e}.safetensors').items()} for e in ('high','low')}
out['average text']={k:p.detach().clone() for k,p in m.prompts.model.named_parameters()}
torch.save(out,'@RUN@/run14/experts.pt')
