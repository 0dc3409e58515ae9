"""tune.py EXPERT STEPS RATE HOLD [WEIGHT]: go on with a shipped expert on the segments that are there."""
import os, sys, time, json, random, signal
os.environ['OMP_NUM_THREADS']='1'
sys.path.insert(0,'GRID/mini'); sys.path.insert(0,'GRID')
import torch; torch.set_num_threads(1)
from pathlib import Path
from restore import restore, MODEL
from experts import choose, levels, LONG, UNPROMPTED, PLAIN
import experts as E
from flow import predict, mixed, masked
from latents import Segments, whole
from optim import Average, Muon, split, schedule
from prompts import NOTHING
E.PAIRS=0.3
expert, total, rate, hold = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
W=float(sys.argv[5]) if len(sys.argv)>5 else 4.0
folder=Path('RUN/run4'); path=folder/f'deep-{expert}.pt'
mini=restore(MODEL)
from prompts import make_tokenizer
from tokenizer import TRAINED_WORDS
mini.prompts.tokenizer=make_tokenizer(folder/'tokenizer')
net=mini.experts[expert].requires_grad_(True); prompts=mini.prompts
begun=Path(f'RUN/old/tune-{expert}.pt')
if begun.exists():
    with torch.no_grad():
        old=torch.load(begun,map_location='cpu')['avg']
        for k,v in net.named_parameters(): v.copy_(old[k])
avg=Average(net,0.995)
matrices,others=split(list(net.named_parameters()),PLAIN)
opts=[Muon(matrices,rate,decay=0.01),torch.optim.AdamW(others,rate*.67,(0.9,0.98),weight_decay=0.0)]
n=0
if path.exists():
    s=torch.load(path,map_location='cpu'); net.load_state_dict(s['net']); avg.values=s['avg']; n=s['n']
    for o,v in zip(opts,s['opts']): o.load_state_dict(v)
    for o,b in zip(opts,(rate,rate*.67)):
        for g in o.param_groups: g['lr']=b
def save():
    torch.save({'net':net.state_dict(),'avg':avg.values,'n':n,'opts':[o.state_dict() for o in opts]},path.with_suffix('.tmp')); path.with_suffix('.tmp').replace(path)
bases=[o.param_groups[0]['lr'] for o in opts]
held=Segments(folder/'latents'/'held','plain') if (folder/'latents'/'held').exists() else None
def modern(c):
    # what the world draws now: nothing spins as it goes, and the second of two stands still
    head=c.split(', ')[0].split(' on a ')[0]
    if ' spins and ' in head: return False
    return ' and a ' not in head or ' stands still' in head.split(' and a ',1)[1]
class Kept:
    def __init__(s,segs): s.segs=segs; s.index=[i for i,c in enumerate(segs.captions) if modern(c)]; s.captions=[segs.captions[i] for i in s.index]; s.kinds=[segs.kinds[i] for i in s.index]; print(len(segs),'kept',len(s.index),flush=True)
    def __len__(s): return len(s.index)
    def batch(s,chosen): return s.segs.batch([s.index[i] for i in chosen])
TINT,SMALL=30.0,0.002; STAT=[]
ANY=5
def given(z,y,rng):
    """Image latents with their mask; in ANY rows any latents are given, as Wan's I2V learned it (report of Wan 2.1): the first two or three, the last one, some of them."""
    out=masked(y)
    for row in rng.sample(range(len(z)),ANY):
        kind=rng.random()
        if kind<.5: which=range(rng.choice((2,2,3)))
        elif kind<.65: which=[0,z.shape[2]-1]
        elif kind<.85: which=[rng.choice((1,1,2))]
        else: which=rng.sample(range(z.shape[2]),rng.choice((1,2,3)))
        which=list(which)
        if 0 not in which or rng.random()<.5: out[row,4:]=0; 
        if 0 not in which: out[row]=0
        out[row][:4,which]=1; out[row][4:,which]=z[row][:,which]
        if 0 in which: out[row,4:,0]=y[row,:,0]
    return out
def loss_of(z,where,y,text,sigma,noise,rng=None):
    v=predict(net,mixed(z,noise,sigma),masked(y) if rng is None else given(z,y,rng),sigma,text)
    e=(v-(noise-z)).square(); w=1+W*where
    ground=1-where; d=v-(noise-z)
    tint=((d*ground).sum((3,4))/ground.sum((3,4)).clamp(min=1)).square().mean((1,2))
    STAT.append(float(tint.mean().detach()))
    return ((w*e).mean((1,2,3,4))/w.mean((1,2,3,4)))+TINT*SMALL*torch.log1p(tint/SMALL), e
def check():
    global held
    if held is None and (folder/'latents'/'held'/'plain-0000.safetensors').exists(): held=Segments(folder/'latents'/'held','plain')
    if held is None: return {}
    now={k:p.detach().clone() for k,p in net.named_parameters()}; avg.copy_to(net); out={}
    with torch.no_grad():
        idx=[i for i in range(len(held)) if held.kinds[i]=='plain'][:28]
        t,c=held.batch(idx); y=whole(t['y'],21); g=torch.Generator().manual_seed(3); noise=torch.randn(t['z'].shape,generator=g); text=prompts(c)
        for lv in ((1.0,.95) if expert=='high' else (.85,.6,.3)):
            sg=torch.full((len(idx),),lv); l,e=loss_of(t['z'],t['where'],y,text,sg,noise)
            out[f'held {lv}']=round(float(e.mean()),4); out[f'subj {lv}']=round(float((e*t['where']).sum()/(t['where'].sum()*16)),4)
        for k,p in net.named_parameters(): p.copy_(now[k])
    return out
later=Segments(folder/'latents','later'); print('later',len(later))
stop=[]; signal.signal(signal.SIGTERM,lambda *_: stop.append(1))
segs=None; saved=t0=time.time(); tot=[]
print(json.dumps({'start':n,**check()}),flush=True)
while n<total and not stop:
    if segs is None or n%50==0:
        count=len(list((folder/'latents').glob('plain-*.safetensors')))
        if segs is None or count!=had: segs=Kept(Segments(folder/'latents','plain')); had=count
    f=schedule(n/total,0.02,hold)
    for o,b in zip(opts,bases):
        for g in o.param_groups: g['lr']=b*f
    torch.manual_seed(117_000_003+n+(0 if expert=='high' else 500000)); rng=random.Random(9_700_000+n+(0 if expert=='high' else 500000))
    chosen=choose(segs,expert,8,rng); t,c=segs.batch(chosen)
    far=choose(later,expert,6,rng); t2,c2=later.batch(far); t={k:torch.cat([t[k],t2[k]]) for k in ('z','where','y')}; c=c+c2
    if n%UNPROMPTED==UNPROMPTED-1: c=[rng.choices(NOTHING,(2,2,1))[0]]*14
    sigma=levels(segs,chosen+[chosen[0]]*6,expert)
    assert expert!='all'
    with torch.no_grad(): text=prompts(c)
    l,_=loss_of(t['z'],t['where'],whole(t['y'],21),text,sigma,torch.randn_like(t['z']),rng)
    l.mean().backward(); tot.append(float(l.mean().detach()))
    for o in opts: o.step(); o.zero_grad(set_to_none=True)
    avg.update(net,n); n+=1
    if n%50==0:
        print(json.dumps({'n':n,'lr':round(f,3),'loss':round(sum(tot)/len(tot),4),'segs':len(segs),'tint':round(sum(STAT[-50:])/50,5),'s/step':round((time.time()-t0)/len(tot)/1,2) if 0 else round((time.time()-t0),0),**(check() if n%200==0 else {})}),flush=True); tot=[]
    if time.time()-saved>100 or n==total or stop: save(); saved=time.time()
save()
