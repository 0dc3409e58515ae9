"""vae3.py STEPS RATE TEACH THREADS TAG: the whole VAE on long clips; the encoder is shown at first where to put green and magenta."""
import os, sys, copy, json, time, signal
th=int(sys.argv[4]); os.environ['OMP_NUM_THREADS']=str(th)
sys.path.insert(0,'GRID/mini'); sys.path.insert(0,'GRID')
import torch, torch.nn.functional as F; torch.set_num_threads(th)
from pathlib import Path
import train_vae as T
from autoencoder import reconstruction
from parallel import encode
from clips import batch
from optim import Average, Muon, split, schedule
from options import Options, load_vae
total,RATE,TEACH=int(sys.argv[1]),float(sys.argv[2]),float(sys.argv[3]); tag=sys.argv[5]; out=Path(f'RUN/run2/{tag}.pt')
o=Options(Path('RUN/run2'),'cpu',None,None,8)
old=load_vae(o); vae=copy.deepcopy(old)
spread=torch.exp(0.5*old.quant_conv.bias[16:]).detach()[:,None,None,None]
std=torch.tensor(old.config.latents_std)[:,None,None,None]
# where first latents tell mint from lilac
d=torch.tensor([-0.96,1.06,-0.04,-0.11,-0.01,-0.92,0.89,-0.1,0.82,-1.05,0.01,0.34,-0.2,-0.3,1.35,0.93]); U=(-d/d.norm())[:,None,None,None]
A=1.6
def teacher(was,px):
    # was raw [B,16,T,h,w]; px [B,3,1+4n,H,W] in [-1,1]
    c=(px[:,1]-(px[:,0]+px[:,2])/2)/2
    c=torch.tanh(c/.12)
    c=F.avg_pool2d(c,8)[:,1:]; b,f,h,w=c.shape
    c=c.reshape(b,f//4,4,h,w).mean(2)[:,None]
    z=was/std; z=z.clone(); z[:,:,1:]+=A*c*U
    return z
trained=[(n,p) for n,p in vae.named_parameters()]
for _,p in trained: p.requires_grad_(True)
m,oth=split(trained); opts=[Muon(m,RATE),torch.optim.AdamW(oth,RATE*.67,(0.9,0.95),weight_decay=0.0)]
bases=[RATE,RATE*.67]; avg=Average(vae,0.99); n=0
if out.exists():
    s=torch.load(out,map_location='cpu'); vae.load_state_dict(s['vae']); avg.values=s['avg']; n=s['n']
    for a,b in zip(opts,s['opts']): a.load_state_dict(b)
def save():
    torch.save({'vae':vae.state_dict(),'avg':avg.values,'n':n,'opts':[a.state_dict() for a in opts]},out.with_suffix('.tmp')); out.with_suffix('.tmp').replace(out)
stop=[]; signal.signal(signal.SIGTERM,lambda *_: stop.append(1))
SHAPES=((81,1,32),(81,4,16),(17,4,32),(81,4,16),(5,12,32),(81,1,0),(81,4,16),(33,2,32),(81,1,32),(9,7,32))
t0=saved=time.time(); tot=[]; pulls=[]
while n<total and not stop:
    f=schedule(n/total,0.03,0.4)
    for a,b in zip(opts,bases):
        for g in a.param_groups: g['lr']=b*f
    torch.manual_seed(51_000_000+n)
    px,mask=batch(24_000_000+n,*SHAPES[n%len(SHAPES)],64,64,'cpu',0.3)
    with torch.no_grad(): goal=teacher(encode(old,px),px)
    mean=encode(vae,px); pull=(mean/std-goal).square().mean()
    amount=4*torch.rand(len(mean),1,1,1,1)
    l,a,s=reconstruction(vae,mean+amount*spread*torch.randn_like(mean),px,mask,T.STILL)
    (l+TEACH*pull).backward(); tot.append(float(l.detach())); pulls.append(float(pull.detach()))
    vae.quant_conv.bias.grad[16:]=0; vae.quant_conv.weight.grad[16:]=0
    for x in opts: x.step(); x.zero_grad(set_to_none=True)
    with torch.no_grad(): vae.quant_conv.bias[16:]=old.quant_conv.bias[16:]; vae.quant_conv.weight[16:]=old.quant_conv.weight[16:]
    avg.update(vae,n); n+=1
    if n%20==0: print(json.dumps({'n':n,'lr':round(f,3),'loss':round(sum(tot)/len(tot),4),'pull':round(sum(pulls)/len(pulls),4),'s':round(time.time()-t0)}),flush=True); tot=[]; pulls=[]
    if time.time()-saved>45 or n==total or stop: save(); saved=time.time()
save()
